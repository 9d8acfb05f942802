// Microsoft's client under remote control: does what a test says, and reports what it saw. Node and browsers alike.
//
// A command is {id, connection, do, ...}; its answer {id, result} or {id, error}. What happens to a connection by itself
// is reported as {connection, event, ...}. The connections are the test's numbers, and so are streams and subjects.
// What nobody caught is reported as {event: "uncaught", error}.
"use strict";

(function (root) {
  function newDriver(signalR, MessagePackHubProtocol, report) {
    const connections = new Map();

    function open(_, command) {
      const number = command.connection;
      const { url, encoding, token, headers, skipNegotiation, reconnect, stateful, timeout, pings } = command;
      const options = { transport: signalR.HttpTransportType.WebSockets, skipNegotiation, headers };
      if (token !== undefined) options.accessTokenFactory = () => token;
      const builder = new signalR.HubConnectionBuilder().withUrl(url, options).configureLogging(signalR.LogLevel.None);
      if (encoding === "messagepack") builder.withHubProtocol(new MessagePackHubProtocol());
      if (reconnect !== undefined) builder.withAutomaticReconnect(reconnect);
      if (stateful) builder.withStatefulReconnect();
      const hub = builder.build();
      if (timeout !== undefined) hub.serverTimeoutInMilliseconds = timeout;
      if (pings !== undefined) hub.keepAliveIntervalInMilliseconds = pings;
      const tell = (event, details) => report({ connection: number, event, ...details });
      hub.onclose((error) => tell("closed", { error: error ? error.message : null }));
      if (hub.onreconnecting) {
        hub.onreconnecting((error) => tell("reconnecting", { error: error ? error.message : null }));
        hub.onreconnected((id) => tell("reconnected", { connectionId: id }));
      }
      connections.set(number, { hub, tell, streams: new Map(), subjects: new Map() });
    }

    // The subjects among the arguments are written {"$subject": number}.
    function filled({ subjects }, values) {
      return values.map((value) => {
        if (value === null || typeof value !== "object" || !("$subject" in value)) return value;
        const subject = new signalR.Subject();
        subjects.set(value.$subject, subject);
        return subject;
      });
    }

    const commands = {
      open,
      start: async ({ hub }) => {
        await hub.start();
        return hub.connectionId || null;
      },
      stop: ({ hub }) => hub.stop(),
      state: ({ hub }) => hub.state,
      invoke: (it, { target, values }) => it.hub.invoke(target, ...filled(it, values)),
      send: (it, { target, values }) => it.hub.send(target, ...filled(it, values)),
      // Of a stream without end only so many items are told of.
      stream: (it, { target, values, stream, most = Infinity }) => {
        let count = 0;
        const observer = {
          next: (item) => {
            count += 1;
            if (count <= most) it.tell("item", { stream, item });
          },
          complete: () => it.tell("completed", { stream, error: null }),
          error: (error) => it.tell("completed", { stream, error: error.message }),
        };
        it.streams.set(stream, it.hub.stream(target, ...filled(it, values)).subscribe(observer));
      },
      dispose: ({ streams }, { stream }) => streams.get(stream).dispose(),
      next: ({ subjects }, { subject, item }) => subjects.get(subject).next(item),
      complete: ({ subjects }, { subject }) => subjects.get(subject).complete(),
      fail: ({ subjects }, { subject, error }) => subjects.get(subject).error(error),
      // A method of the client's: told of, and answered with what it was called with, or with an error.
      on: ({ hub, tell }, { target, answers, error }) =>
        hub.on(target, (...values) => {
          tell("called", { target, values });
          if (error !== undefined) throw new Error(error);
          return answers ? values[0] : undefined;
        }),
    };

    return async function obey(command) {
      const { id, connection } = command;
      try {
        const result = await commands[command.do](connections.get(connection), command);
        report({ id, result: result === undefined ? null : result });
      } catch (error) {
        report({ id, error: error && error.message ? error.message : String(error) });
      }
    };
  }

  if (typeof module === "object") module.exports = newDriver;
  else root.newDriver = newDriver;
})(this);
