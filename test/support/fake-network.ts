/** The asking side of a network without sockets: each request is answered by a function. */
import type { Asker } from '../../src/network/network.ts'

/** Frames of the answer of `peer`, or an error that ends the request. Bytes that are not part of a frame yet are reported to `onBytes`. */
export type Reply = (
  peer: string,
  request: unknown,
  signal: AbortSignal,
  onBytes: (count: number) => void,
) => AsyncIterable<unknown>

export function fakeNetwork(reply: Reply): Asker {
  return {
    async *ask(peer, _protocol, request, signal, onBytes = () => undefined) {
      yield* reply(peer, request, signal, onBytes)
    },
  }
}
