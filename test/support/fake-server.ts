/** HTTP servers on loopback that answer as a test says. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseUpstreamUrl } from '../../src/serving/upstream-engine.ts'

export type Handler = (request: IncomingMessage, body: string, response: ServerResponse) => void
const closing: (() => Promise<void>)[] = []
export async function closeServers(): Promise<void> {
  for (const close of closing.splice(0)) await close()
}

/** A server that answers every request by `handler`; its address. */
export async function serve(handler: Handler): Promise<URL> {
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (text: string) => {
      body += text
    })
    request.on('end', () => handler(request, body, response))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closing.push(async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return parseUpstreamUrl(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`)
}
