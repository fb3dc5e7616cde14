/** The API on a TCP socket of the loopback address, with every timeout and size set. Knows nothing about routes. */
import { createServer, type Server } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import type { Hono } from 'hono'
import { hasErrno, InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'
import { type Log, SILENT } from '../telemetry/log.ts'

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
export async function startServer(app: Hono, port: number, log: Log = SILENT): Promise<RunningServer> {
  const server = createServer(
    {
      headersTimeout: limit('httpHeadersTimeout'),
      requestTimeout: limit('httpRequestTimeout'),
      maxHeaderSize: limit('httpHeaderBytes'),
    },
    getRequestListener(app.fetch),
  )
  server.maxConnections = limit('httpConnections')
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
