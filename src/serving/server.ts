/** The API on a TCP socket of the loopback address, with every timeout and size set. Knows nothing about routes. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { getRequestListener, RequestError } from '@hono/node-server'
import { hasErrno, InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { type Log, SILENT } from '../telemetry/log.ts'
import { type Client, requestId } from './api-env.ts'
import type { Api } from './app.ts'
import { type Connection, Connections } from './connections.ts'
import { type Problem, problemBody, problemOf } from './problem.ts'

export interface RunningServer {
  readonly port: number
  close(): Promise<void>
}

const LOOPBACK = '127.0.0.1'

/**
 * @param port 0 chooses a free one
 * @param log receives unexpected errors of the socket
 * @throws InputError `port-in-use`.
 */
export async function startServer(app: Api, port: number, log: Log = SILENT): Promise<RunningServer> {
  const connections = new Connections({
    connections: limit('httpConnections'),
    strangers: limit('httpStrangers'),
  })
  const bySocket = new WeakMap<Socket, Connection>()
  const listener = getRequestListener(
    (request, env) => {
      // The server speaks HTTP/1.1 only.
      const incoming = env.incoming as IncomingMessage
      const connection = bySocket.get(incoming.socket)
      const client = connection && clientOf(connections, connection, incoming, env.outgoing as ServerResponse)
      return app.fetch(request, client === undefined ? {} : { client })
    },
    { errorHandler: refuseUnreadable },
  )
  const server = createServer(
    {
      headersTimeout: limit('httpHeadersTimeout'),
      requestTimeout: limit('httpRequestTimeout'),
      keepAliveTimeout: limit('httpKeepAlive'),
      connectionsCheckingInterval: limit('httpCheckInterval'),
      maxHeaderSize: limit('httpHeaderBytes'),
    },
    (incoming, outgoing) => {
      limitResponse(outgoing, incoming.socket)
      // The adapter builds a URL from the host, and refuses spellings that the app accepts. The app reads the raw header.
      incoming.headers.host = LOOPBACK
      return listener(incoming, outgoing)
    },
  )
  server.on('connection', (socket: Socket) => {
    const connection = connections.open(socket)
    bySocket.set(socket, connection)
    socket.once('close', () => connections.close(connection))
  })
  const actual = await listen(server, port)
  server.on('error', (error) => log.warn('the API cannot accept a connection', error))
  return {
    port: actual,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** The response to a request that never reaches the app, because its path cannot be read. */
function refuseUnreadable(error: unknown): Response {
  const problem: Problem =
    error instanceof RequestError
      ? { status: 400, code: 'bad_request', message: `the request cannot be read: ${error.message}` }
      : problemOf(error)
  const headers = { 'X-Request-Id': requestId() }
  return Response.json(problemBody(problem), { status: problem.status, headers })
}

/** What a route tells about the connection of its request. */
function clientOf(
  connections: Connections,
  connection: Connection,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Client {
  let isReceived = false
  const received = (): void => {
    if (isReceived) return
    isReceived = true
    outgoing.once('close', connections.answer(connection))
  }
  return {
    authenticated: () => {
      connections.know(connection)
      // The body of a short request arrives with its headers. The app reads it later, and until then the socket would
      // have to give way to new ones.
      process.nextTick(() => {
        if (incoming.complete) received()
      })
    },
    received,
    drop: () => connection.destroy(),
  }
}

/** Closes a socket whose client does not take the rest of an answer. */
function limitResponse(outgoing: ServerResponse, socket: Socket): void {
  outgoing.once('prefinish', () => {
    const timer = setTimeout(() => socket.destroy(), limit('httpResponseTimeout'))
    outgoing.once('close', () => clearTimeout(timer))
  })
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      const message = `port ${port} is in use; stop the other program or choose another with --port`
      reject(hasErrno(error, 'EADDRINUSE') ? new InputError('port-in-use', message, { port }, error) : error)
    }
    server.once('error', fail)
    server.listen(port, LOOPBACK, () => {
      server.off('error', fail)
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : port)
    })
  })
}
