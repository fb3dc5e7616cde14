/**
 * The API on a TCP socket, of the loopback address or for other machines, with every timeout and size set. Knows nothing
 * about routes.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { getRequestListener, RequestError } from '@hono/node-server'
import { hasErrno, InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { type Log, SILENT } from '../telemetry/log.ts'
import { type Client, requestId } from './api-env.ts'
import type { Api } from './app.ts'
import { type Connection, Connections } from './connections.ts'
import type { OutsideListener } from './exposure.ts'
import { type Problem, problemBody, problemOf } from './problem.ts'

export interface RunningServer {
  readonly port: number
  /**
   * Accept no more connections, let the answers that are under way end, and close all sockets.
   * @param drainMs longest time to wait for answers, ms; default: none
   */
  close(drainMs?: number): Promise<void>
}

/** What was sent to one client in answer to one request. */
export interface Sent {
  /** Absent for a request that could not be read. */
  readonly requestId?: string
  readonly method: string
  /** Without its query. */
  readonly path: string
  readonly status: number
  /** Time since the headers of the request arrived, ms. */
  readonly milliseconds: number
  /** Name of the key or session of the request, or `no key`. */
  readonly to: string
  /** Bytes on the socket, with headers. */
  readonly bytes: number
  /** Number of generated tokens. */
  readonly tokens: number
}

const LOOPBACK = '127.0.0.1'

/**
 * @param port 0 chooses a free one; has no effect with `outside`
 * @param log receives unexpected errors of the socket
 * @param onSent called after every response with its size, never with its content
 * @param outside where other machines connect; default: the loopback address without TLS
 * @throws InputError `port-in-use`, `usage` for an address that this machine does not have.
 */
export async function startServer(
  app: Api,
  port: number,
  log: Log = SILENT,
  onSent: (sent: Sent) => void = () => undefined,
  outside: OutsideListener | undefined = undefined,
): Promise<RunningServer> {
  const connections = new Connections({
    connections: limit('httpConnections'),
    strangers: limit('httpStrangers'),
  })
  const bySocket = new WeakMap<Socket, Connection>()
  const counts = new WeakMap<ServerResponse, AnswerCount>()
  const listener = getRequestListener(
    (request, env) => {
      // The server speaks HTTP/1.1 only.
      const incoming = env.incoming as IncomingMessage
      const connection = bySocket.get(incoming.socket)
      const outgoing = env.outgoing as ServerResponse
      const count = counts.get(outgoing)
      const client = connection && count && clientOf({ connections, connection, incoming, outgoing, count })
      return app.fetch(request, {
        ...(client === undefined ? {} : { client }),
        ...(outside === undefined ? {} : { isOutside: true }),
      })
    },
    { errorHandler: refuseUnreadable },
  )
  /** Answers that are under way. */
  const answering = new Set<ServerResponse>()
  let onIdle = (): void => undefined
  const options = {
    headersTimeout: limit('httpHeadersTimeout'),
    requestTimeout: limit('httpRequestTimeout'),
    keepAliveTimeout: limit('httpKeepAlive'),
    connectionsCheckingInterval: limit('httpCheckInterval'),
    maxHeaderSize: limit('httpHeaderBytes'),
  }
  const onRequest = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    answering.add(outgoing)
    outgoing.once('close', () => {
      answering.delete(outgoing)
      if (answering.size === 0) onIdle()
    })
    limitResponse(outgoing, incoming.socket)
    counts.set(outgoing, countAnswer(incoming, outgoing, onSent))
    // The adapter builds a URL from the host, and refuses spellings that the app accepts. The app reads the raw header.
    incoming.headers.host = LOOPBACK
    void listener(incoming, outgoing)
  }
  const tls = outside?.tls
  const server =
    tls === undefined
      ? createServer(options, onRequest)
      : createTlsServer(
          {
            ...options,
            cert: Buffer.from(tls.cert),
            key: Buffer.from(tls.key),
            minVersion: 'TLSv1.2',
            handshakeTimeout: options.headersTimeout,
          },
          onRequest,
        )
  // Sockets whose TLS handshake has not ended are not among `connections`.
  if (tls !== undefined) server.maxConnections = limit('httpConnections') + limit('httpStrangers')
  if (outside !== undefined) {
    server.on('connection', (socket: Socket) => {
      if (!outside.isClient(socket.remoteAddress ?? '')) socket.destroy()
    })
  }
  server.on(tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
    const connection = connections.open(socket)
    bySocket.set(socket, connection)
    socket.once('close', () => connections.close(connection))
  })
  const actual = await listen(server, outside?.host ?? LOOPBACK, outside?.port ?? port)
  server.on('error', (error) => log.warn('the API cannot accept a connection', error))
  return {
    port: actual,
    close: async (drainMs = 0) => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      if (drainMs > 0 && answering.size > 0) {
        const timeUp = new AbortController()
        const idle = new Promise<void>((resolve) => {
          onIdle = resolve
        })
        await Promise.race([idle, delay(drainMs, undefined, { signal: timeUp.signal })])
        timeUp.abort()
      }
      server.closeAllConnections()
      await closed
    },
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

/** What the routes say about an answer. */
interface AnswerCount {
  requestId?: string
  to: string
  tokens: number
}

/** Count what is sent on a socket until a response has ended, as what that response has sent. */
function countAnswer(
  { method = '', url = '', socket }: IncomingMessage,
  outgoing: ServerResponse,
  onSent: (sent: Sent) => void,
): AnswerCount {
  const count: AnswerCount = { to: 'no key', tokens: 0 }
  const since = performance.now()
  outgoing.once('close', () => {
    const bytes = socket.bytesWritten - (counted.get(socket) ?? 0)
    counted.set(socket, socket.bytesWritten)
    const [path = ''] = url.split('?')
    const milliseconds = Math.round(performance.now() - since)
    onSent({ ...count, method, path, status: outgoing.statusCode, milliseconds, bytes })
  })
  return count
}
/** Number of bytes of each socket that were counted. */
const counted = new WeakMap<Socket, number>()

/** What a route tells about the connection of its request. */
function clientOf({
  connections,
  connection,
  incoming,
  outgoing,
  count,
}: {
  readonly connections: Connections
  readonly connection: Connection
  readonly incoming: IncomingMessage
  readonly outgoing: ServerResponse
  readonly count: AnswerCount
}): Client {
  let isReceived = false
  const received = (): void => {
    if (isReceived) return
    isReceived = true
    outgoing.once('close', connections.answer(connection))
  }
  return {
    identified: (requestId) => {
      count.requestId = requestId
    },
    authenticated: (who) => {
      count.to = who
      connections.know(connection)
      // The body of a short request arrives with its headers. The app reads it later, and until then the socket would
      // have to give way to new ones.
      process.nextTick(() => {
        if (incoming.complete) received()
      })
    },
    received,
    generated: (tokens) => {
      count.tokens += tokens
    },
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

function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      const option = host === LOOPBACK ? '--port' : '--listen-api'
      if (hasErrno(error, 'EADDRINUSE')) {
        const message = `port ${port} is in use; stop the other program or choose another with ${option}`
        reject(new InputError('port-in-use', message, { port }, error))
      } else if (hasErrno(error, 'EADDRNOTAVAIL')) {
        reject(
          new InputError('usage', `${option}: this machine does not have the address ${host}`, {}, error),
        )
      } else if (hasErrno(error, 'EACCES')) {
        const message = `${option}: this user may not listen on port ${port}; choose one above 1023`
        reject(new InputError('permissions', message, { port }, error))
      } else reject(error)
    }
    server.once('error', fail)
    server.listen(port, host, () => {
      server.off('error', fail)
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : port)
    })
  })
}
