/** The API on a socket: loopback by default, every timeout and size set. Knows no route. */
import { randomBytes } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import type { Hono } from 'hono'
import { fromUtf8, toHex } from '../lib/bytes.ts'
import { hasErrno, InputError } from '../lib/errors.ts'
import { pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'

export interface RunningServer {
  readonly port: number
  close(): Promise<void>
}

const LOOPBACK = '127.0.0.1'
const KEY_BYTES = 24
const MAX_KEY_FILE = 256

/** @throws InputError `port-in-use`. */
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

/** The API key of a home folder; made on first use, mode 0600. */
export async function loadApiKey(path: string): Promise<string> {
  if (await pathExists(path)) return fromUtf8(await readFileBounded(path, MAX_KEY_FILE)).trim()
  const key = `fm-${toHex(randomBytes(KEY_BYTES))}`
  await writeFileAtomic(path, `${key}\n`)
  return key
}
