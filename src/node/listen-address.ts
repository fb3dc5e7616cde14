/** Which addresses a node can listen on. Knows nothing about networks. */
import { InputError } from '../lib/errors.ts'
import { parseAddress } from '../network/address.ts'

const MAX_PORT = 65_535

/** @throws InputError `usage` unless the address is `/ip4/ADDRESS/tcp/PORT` or `/ip6/ADDRESS/tcp/PORT`. */
export function checkListenAddress(address: string): void {
  const parts = parseAddress(address)?.getComponents() ?? []
  const [host, transport, ...rest] = parts
  const isIp = host?.name === 'ip4' || host?.name === 'ip6'
  const isTcp = transport?.name === 'tcp' && Number(transport.value) <= MAX_PORT
  if (isIp && isTcp && rest.length === 0) return
  throw new InputError(
    'usage',
    `--listen: expected /ip4/ADDRESS/tcp/PORT or /ip6/ADDRESS/tcp/PORT, as in /ip4/0.0.0.0/tcp/4001, got "${address}"`,
  )
}
