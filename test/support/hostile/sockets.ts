/** Plain TCP sockets of an attacker who never finishes a handshake. */
import { connect, type Socket } from 'node:net'
import { multiaddr } from '@multiformats/multiaddr'

export interface Flood {
  /** Number of sockets that were opened so far. */
  opened(): number
  /** Resolves once this number of sockets was opened. */
  reached(count: number): Promise<void>
  /** Open no more sockets and close all. */
  stop(): void
}

/**
 * Open `perSecond` connections each second and keep them open without a byte.
 * @param address multiaddr with an IPv4 address and a TCP port.
 * @param sources local addresses in turn; default: the system's choice. All of 127.0.0.0/8 is usable on loopback.
 * @param most number of sockets after which no more are opened; default: no limit.
 * @param send bytes to send on each socket, e.g. the begin of a handshake.
 */
export function floodWithSockets(
  address: string,
  perSecond: number,
  {
    sources,
    send,
    most = Number.POSITIVE_INFINITY,
  }: { readonly sources?: readonly string[]; readonly send?: Uint8Array; readonly most?: number } = {},
): Flood {
  const parts = multiaddr(address).getComponents()
  const host = parts.find(({ name }) => name === 'ip4')?.value as string
  const port = Number(parts.find(({ name }) => name === 'tcp')?.value)
  const sockets = new Set<Socket>()
  let opened = 0
  const waiting = new Set<{ readonly count: number; readonly resolve: () => void }>()
  const open = (): void => {
    const localAddress = sources?.[opened % sources.length]
    const socket = connect({ host, port, ...(localAddress === undefined ? {} : { localAddress }) })
    opened++
    for (const entry of waiting) {
      if (opened < entry.count) continue
      waiting.delete(entry)
      entry.resolve()
    }
    sockets.add(socket)
    if (send !== undefined) socket.once('connect', () => socket.write(send))
    // Refused and reset sockets are what an attacker expects.
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
  }
  const began = performance.now()
  // A timer runs a thousand times a second at most, and less often in a busy process.
  const timer = setInterval(() => {
    const due = Math.min(most, Math.ceil(((performance.now() - began) * perSecond) / 1000))
    while (opened < due) open()
  }, 1000 / perSecond)
  return {
    opened: () => opened,
    reached: (count) => new Promise((resolve) => void waiting.add({ count, resolve })),
    stop: () => {
      clearInterval(timer)
      for (const socket of sockets) socket.destroy()
    },
  }
}
