/**
 * The names under which a server may be asked. Implements protocols/inference-api, section "Endpoints". Knows nothing
 * about requests.
 */

interface Host {
  /** As URLs spell it: lower case, IP addresses in their usual form, IPv6 in brackets. */
  readonly name: string
  /** Undefined if the header has none. */
  readonly port: number | undefined
}

/** Ports that clients leave out, because they are the defaults of http and https. */
const DEFAULT_PORTS = [80, 443]
const LOOPBACK_NAMES = ['127.0.0.1', 'localhost', '[::1]']

/** Whether a Host header names the server that listens on `port` of the loopback address. */
export function isLoopbackHost(header: string | undefined, port: number): boolean {
  const host = parseHost(header ?? '')
  if (host === undefined || !LOOPBACK_NAMES.includes(host.name)) return false
  return host.port === undefined ? DEFAULT_PORTS.includes(port) : host.port === port
}

/** The name in a Host header as URLs spell it, without its port; undefined for text that is no host. */
export function hostName(header: string | undefined): string | undefined {
  return parseHost(header ?? '')?.name
}

function parseHost(header: string): Host | undefined {
  // Only characters of names, addresses and ports, so that URL finds no user, path or query in the header.
  const [, name, port = ''] = /^([a-z\d.-]+|\[[a-f\d.:]+\])(?::(\d{0,5}))?$/i.exec(header) ?? []
  const url = `http://${name?.replace(/\.$/, '')}/`
  if (name === undefined || !URL.canParse(url)) return undefined
  return { name: new URL(url).hostname, port: port === '' ? undefined : Number(port) }
}
