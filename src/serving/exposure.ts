/**
 * How the API may be reached from other machines: an address to listen on, with TLS or for named proxies only, and the
 * names under which it may be asked. Implements protocols/inference-api, section "Beyond the loopback address". Opens no
 * sockets.
 */
import { BlockList, isIP } from 'node:net'
import { createSecureContext, type SecureContext } from 'node:tls'
import { InputError } from '../lib/errors.ts'
import { readFileBounded } from '../lib/files.ts'
import { hostName } from './host.ts'
import { DEFAULT_OUTSIDE_PORT } from './outside-port.ts'

const MAX_PORT = 65_535
const MAX_PEM_BYTES = 256 * 1024
const WILDCARDS = ['0.0.0.0', '::']

/** The options of the operator, as they are written. */
export interface ExposureOptions {
  /** `HOST` or `HOST:PORT`, with an IPv6 address in brackets if a port follows. */
  readonly listenApi?: string | undefined
  /** Files in PEM. */
  readonly tlsCert?: string | undefined
  readonly tlsKey?: string | undefined
  /** Addresses or CIDR blocks. */
  readonly trustedProxies?: readonly string[] | undefined
  /** Names without ports. */
  readonly allowedHosts?: readonly string[] | undefined
}

/** A second socket of the API, besides the one on the loopback address. */
export interface OutsideListener {
  /** An IP address. */
  readonly host: string
  /** 0 for any free port. */
  readonly port: number
  /** Certificate and key in PEM; undefined without TLS. */
  readonly tls?: { readonly cert: Uint8Array; readonly key: Uint8Array }
  /** Whether a client with this address may connect. */
  isClient(address: string): boolean
}

export interface Exposure {
  readonly listener?: OutsideListener
  /** Names under which others ask, as `hostName` returns them. */
  readonly hosts: readonly string[]
}

/**
 * @throws InputError `usage` for options that cannot be read or that would let others reach the API without TLS;
 * `not-found`, `permissions` for files.
 */
export async function parseExposure(options: ExposureOptions): Promise<Exposure> {
  const { listenApi, tlsCert, tlsKey, trustedProxies = [], allowedHosts = [] } = options
  const hosts = allowedHosts.map(parseAllowedHost)
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    throw usage('--tls-cert and --tls-key belong together: give both files')
  if (listenApi === undefined) {
    if (tlsCert !== undefined) throw usage('--tls-cert needs --listen-api HOST; on loopback there is no TLS')
    if (trustedProxies.length > 0)
      throw usage(
        '--trusted-proxy needs --listen-api HOST; a proxy on this machine needs only --allowed-host',
      )
    return { hosts }
  }
  const { host, port } = parseListen(listenApi)
  if (!isLoopback(host) && tlsCert === undefined && trustedProxies.length === 0) {
    throw usage(
      `--listen-api ${listenApi}: other machines could read prompts, answers and keys on the way; give --tls-cert and --tls-key, or --trusted-proxy with the address of the proxy that ends TLS`,
    )
  }
  if (WILDCARDS.includes(host) && hosts.length === 0) {
    throw usage(
      `--listen-api ${listenApi}: give --allowed-host with the name under which clients ask, as in llm.example.org`,
    )
  }
  const proxies = trustedProxies.length === 0 ? undefined : blockListOf(trustedProxies)
  return {
    hosts: WILDCARDS.includes(host)
      ? hosts
      : [hostName(isIP(host) === 6 ? `[${host}]` : host) ?? host, ...hosts],
    listener: {
      host,
      port,
      ...(tlsCert === undefined || tlsKey === undefined ? {} : { tls: await readTls(tlsCert, tlsKey) }),
      isClient: (address) => proxies === undefined || isListed(proxies, address),
    },
  }
}

function parseListen(text: string): { host: string; port: number } {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  const host = bracketed ?? plain ?? text
  const port = digits === undefined ? DEFAULT_OUTSIDE_PORT : Number(digits)
  if (isIP(host) === 0 || port > MAX_PORT) {
    throw usage(
      `--listen-api: expected an IP address, with or without a port, as in 0.0.0.0:8443 or [::]:8443, got "${text}"`,
    )
  }
  return { host, port }
}

function parseAllowedHost(text: string): string {
  const name =
    /:\d*$/.test(text) && isIP(text) === 0 ? undefined : hostName(isIP(text) === 6 ? `[${text}]` : text)
  if (name === undefined)
    throw usage(`--allowed-host: expected a name or address without port and scheme, got "${text}"`)
  return name
}

/** @throws InputError `usage` for a certificate and key that do not belong together. */
async function readTls(certFile: string, keyFile: string): Promise<{ cert: Uint8Array; key: Uint8Array }> {
  const [cert, key] = await Promise.all([
    readFileBounded(certFile, MAX_PEM_BYTES),
    readFileBounded(keyFile, MAX_PEM_BYTES),
  ])
  secureContext(cert, key, `--tls-cert ${certFile} and --tls-key ${keyFile}`)
  return { cert, key }
}

function secureContext(cert: Uint8Array, key: Uint8Array, title: string): SecureContext {
  try {
    return createSecureContext({ cert: Buffer.from(cert), key: Buffer.from(key) })
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw usage(`${title}: expected a certificate and its key in PEM, without a passphrase: ${reason}`)
  }
}

function blockListOf(proxies: readonly string[]): BlockList {
  const list = new BlockList()
  for (const text of proxies) {
    const [address = '', digits, ...rest] = text.split('/')
    const family = isIP(address)
    const bits = family === 6 ? 128 : 32
    const prefix = digits === undefined ? bits : /^\d{1,3}$/.test(digits) ? Number(digits) : Number.NaN
    if (family === 0 || rest.length > 0 || !(prefix >= 1 && prefix <= bits)) {
      throw usage(
        `--trusted-proxy: expected an address or a CIDR block, as in 10.0.0.5 or 10.0.0.0/24, got "${text}"`,
      )
    }
    list.addSubnet(address, prefix, family === 6 ? 'ipv6' : 'ipv4')
  }
  return list
}

function isListed(list: BlockList, address: string): boolean {
  // Sockets that accept both versions of IP show addresses of IPv4 in this form.
  const plain = address.replace(/^::ffff:(?=\d+\.)/, '')
  return list.check(plain, isIP(plain) === 6 ? 'ipv6' : 'ipv4')
}

function isLoopback(host: string): boolean {
  return host === '::1' || host.startsWith('127.')
}

function usage(message: string): InputError {
  return new InputError('usage', message)
}
