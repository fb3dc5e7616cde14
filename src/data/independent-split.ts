/**
 * Divides the documents of a corpus into training and held-out text for differentially private training: whatever is
 * done with a document depends on this document alone. `CorpusSplit` leaves out documents that equal others and samples
 * large texts, so that one document changes what becomes of the others, and a guarantee for one unit would not hold.
 */

import { limit } from '../lib/limits.ts'
import type { Converted, SideStats } from './corpus.ts'
import {
  DEFAULT_HELD_OUT_SHARE,
  digestOf,
  isHeldOut,
  refuseTooSmall,
  type SplitCounts,
  type SplitTarget,
} from './corpus-split.ts'
import type { Encoding } from './encodings.ts'
import type { SplitInit } from './prepare-corpus.ts'
import type { Document } from './readers.ts'
import { TextSample } from './text-sample.ts'

/** Keeps duplicates; keeps held-out documents that repeat the training text, since nothing of them is published. */
export class IndependentSplit {
  readonly #init: SplitInit
  readonly #target: SplitTarget
  readonly #converted = new Map<Encoding, Converted>()
  readonly #heldOut = new TextSample(limit('heldOutBytes'))
  /** Numbers of sources by their names. */
  readonly #sources = new Map<string, number>()

  constructor(init: SplitInit, target: SplitTarget) {
    this.#init = init
    this.#target = target
  }

  noteEncoding(path: string, encoding: Encoding): void {
    const { files, example } = this.#converted.get(encoding) ?? { files: 0, example: path }
    this.#converted.set(encoding, { encoding, files: files + 1, example })
  }

  async add({ text, name, document, source }: Document): Promise<void> {
    const hash = digestOf(text)
    if (isHeldOut(hash, this.#init.heldOutShare ?? DEFAULT_HELD_OUT_SHARE)) {
      this.#heldOut.add({ hash, text, name })
      return
    }
    const number = this.#sources.get(source) ?? this.#sources.size
    this.#sources.set(source, number)
    await this.#target.train(text, { document, source: number })
  }

  /** @throws as `CorpusSplit.finish`. */
  async finish(trainStats: () => SideStats): Promise<SplitCounts> {
    refuseTooSmall(this.#init, trainStats(), 0)
    for (const { text } of this.#heldOut.byHash()) await this.#target.heldOut(text)
    return {
      duplicates: 0,
      nearDuplicates: 0,
      repeated: 0,
      heldOutRepeats: false,
      unsampled: { documents: 0, bytes: 0 },
      converted: [...this.#converted.values()],
    }
  }
}
