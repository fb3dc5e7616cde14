/** The API on a TCP socket of the loopback address, with every timeout and size set. Knows nothing about routes. */
import { createServer, type Server } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import type { Hono } from 'hono'
import { hasErrno, InputError } from '../lib/errors.ts'
import { limit } from '../lib/limits.ts'

export interface RunningServer {
  readonly port: number
  close(): Promise<void>
}

const LOOPBACK = '127.0.0.1'

/** @param port 0 takes a free one. @throws InputError `port-in-use`. */
export async function startServer(app: Hono, port: number): Promise<RunningServer> {
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
    server.once('error', (error) => {
      reject(
        hasErrno(error, 'EADDRINUSE')
          ? new InputError(
              'port-in-use',
              `port ${port} is in use; stop the other program or choose another with --port`,
              { port },
              error,
            )
          : error,
      )
    })
    server.listen(port, LOOPBACK, () => {
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : port)
    })
  })
}
