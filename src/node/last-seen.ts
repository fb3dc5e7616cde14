/** When each member was last connected to this node, kept across restarts. Knows nothing about addresses. */
import { fromUtf8, utf8 } from '../lib/bytes.ts'
import type { Catalogue } from '../store/catalogue.ts'

/** Time between two writes about one member, seconds. */
const WRITE_EVERY = 60

export class LastSeen {
  readonly #catalogue: Catalogue
  readonly #now: () => number
  readonly #written = new Map<string, number>()

  /** @param now Unix seconds */
  constructor(catalogue: Catalogue, now: () => number) {
    this.#catalogue = catalogue
    this.#now = now
  }

  /** A member has answered a request. @throws InputError `disk-full`, `io`. */
  async remember(peer: string): Promise<void> {
    const now = this.#now()
    const written = this.#written.get(peer)
    if (written !== undefined && now - written < WRITE_EVERY) return
    this.#written.set(peer, now)
    await this.#catalogue.put('seen', peer, utf8(String(now)))
  }

  /** Unix seconds, at most a minute too early; undefined if the member was never connected. */
  async of(peer: string): Promise<number | undefined> {
    const stored = await this.#catalogue.get('seen', peer)
    return stored === undefined ? undefined : Number(fromUtf8(stored))
  }
}
