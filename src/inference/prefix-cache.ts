/**
 * Keeps the keys and values of recent prompts, so that a prompt with the same beginning needs only its rest to be read.
 * Evicts the least recently used. Does not know engines.
 */

import type { SequenceRouting } from '../model/routing-plan.ts'
import type { KvCache, KvPrefix } from './kv-cache.ts'

interface Entry {
  readonly tokens: Int32Array
  readonly routing: SequenceRouting
  readonly scope: string
  readonly prefix: KvPrefix
  readonly bytes: number
}

/** Shorter prefixes cost less to compute than to look up and copy. */
const MIN_PREFIX_TOKENS = 16

/** Prefixes of at most `maxBytes` together. */
export class PrefixCache {
  readonly #maxBytes: number
  /** In order of use, the most recent last. */
  readonly #entries: Entry[] = []
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /**
   * The longest stored prefix of `tokens` that was computed with the same routing, and its length in tokens.
   * @param scope only prompts of the same scope are compared
   */
  find(
    tokens: Int32Array,
    routing: SequenceRouting,
    scope: string,
  ): { prefix: KvPrefix; length: number } | undefined {
    let best: { entry: Entry; length: number } | undefined
    for (const entry of this.#entries) {
      if (entry.scope !== scope || !sameRouting(entry.routing, routing)) continue
      const length = commonLength(entry.tokens, tokens)
      if (length >= MIN_PREFIX_TOKENS && length > (best?.length ?? 0)) best = { entry, length }
    }
    if (best === undefined) return undefined
    this.#entries.splice(this.#entries.indexOf(best.entry), 1)
    this.#entries.push(best.entry)
    return { prefix: best.entry.prefix, length: best.length }
  }

  /** Stores a prompt from a slot of `cache`, if it fits. Replaces stored prompts that are a prefix of it. */
  add(
    tokens: Int32Array,
    { mask, gate }: SequenceRouting,
    cache: KvCache,
    slot: number,
    scope: string,
  ): void {
    const bytes = cache.prefixBytes(tokens.length)
    if (tokens.length < MIN_PREFIX_TOKENS || bytes > this.#maxBytes) return
    const routing = { mask: mask.slice(), gate }
    for (const entry of [...this.#entries]) {
      if (entry.scope !== scope || !sameRouting(entry.routing, routing)) continue
      if (commonLength(entry.tokens, tokens) === entry.tokens.length) this.#drop(entry)
    }
    const prefix = cache.copyOut(slot, tokens.length)
    this.#entries.push({ tokens: tokens.slice(), routing, scope, prefix, bytes })
    this.#bytes += bytes
    while (this.#bytes > this.#maxBytes) this.#drop(this.#entries[0] as Entry)
  }

  #drop(entry: Entry): void {
    this.#entries.splice(this.#entries.indexOf(entry), 1)
    this.#bytes -= entry.bytes
  }
}

function commonLength(a: Int32Array, b: Int32Array): number {
  const end = Math.min(a.length, b.length)
  let i = 0
  while (i < end && a[i] === b[i]) i++
  return i
}

/** Gates are compared by identity: `Gates` returns the same object for the same experts while it keeps it. */
function sameRouting(a: SequenceRouting, b: SequenceRouting): boolean {
  return a.gate === b.gate && a.mask.length === b.mask.length && a.mask.every((m, e) => m === b.mask[e])
}
