/**
 * All trainings of a home: what the node and its commands ask about them, and the state that those questions share.
 * Knows nothing about statements or the network.
 */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { DirectoryOptions } from '../checkpoint/huggingface-directory.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { pathExists } from '../lib/files.ts'
import { SharedWork } from '../lib/shared-work.ts'
import type { HeldOutDocument } from '../model/evaluate.ts'
import type { Expert } from '../model/params.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import type { Engine } from '../tensor/engine.ts'
import { type CutExpert, cutTrained } from './cut-expert.ts'
import { exportPair, type PairExport } from './export-pair.ts'
import { ownHeldOut, publicHeldOut } from './held-out.ts'
import type { TrainedExpert } from './release.ts'
import { publicStatistics } from './statistics.ts'
import { type TrainEvent, type TrainRequest, trainExpert } from './train-expert.ts'
import { loadTrained, RESULT_FILE } from './training-folder.ts'

export class Trainings {
  readonly #engine: Engine
  readonly #model: PublicModel
  readonly #root: string
  readonly #signal: AbortSignal
  readonly #counting = new SharedWork<RouterStatistics>()
  #publicStatistics: RouterStatistics | undefined

  /**
   * @param root folder of the trainings, which need not exist yet.
   * @param signal ends everything that these trainings do.
   */
  constructor(engine: Engine, model: PublicModel, root: string, signal: AbortSignal) {
    this.#engine = engine
    this.#model = model
    this.#root = root
    this.#signal = signal
  }

  /** Names of the finished trainings: those whose result was written. */
  async finished(): Promise<string[]> {
    if (!(await pathExists(this.#root))) return []
    const names = (await readdir(this.#root)).filter((name) => !name.startsWith('.'))
    const finished = await Promise.all(names.map((name) => pathExists(join(this.#root, name, RESULT_FILE))))
    return names.filter((_, i) => finished[i])
  }

  /**
   * The trained expert and what its run recorded.
   * @throws InputError `not-found` before the training has finished.
   */
  load(name: string): Promise<TrainedExpert> {
    return loadTrained(this.#model, this.#root, name)
  }

  /** Held-out documents of one training, of at most `maxBytes` bytes; may be empty. */
  heldOut(name: string, maxBytes?: number): Promise<HeldOutDocument[]> {
    return ownHeldOut(this.#model, this.#root, name, maxBytes)
  }

  /** Held-out documents of every finished training, of at most `maxBytes` bytes each. */
  async allHeldOut(maxBytes: number): Promise<HeldOutDocument[]> {
    const documents: HeldOutDocument[] = []
    for (const name of await this.finished()) documents.push(...(await this.heldOut(name, maxBytes)))
    return documents
  }

  /** Held-out documents of the public text for replay. @throws InputError of `openReplay`. */
  publicHeldOut(maxBytes?: number): Promise<HeldOutDocument[]> {
    return publicHeldOut(this.#model, this.#root, this.#signal, maxBytes)
  }

  /**
   * Router statistics of the public text, computed once: that text never changes.
   * @throws InputError of `openReplay`; the next call then tries again.
   */
  async publicStatistics(): Promise<RouterStatistics> {
    this.#publicStatistics ??= await this.#counting.run(
      'public',
      (signal) => publicStatistics(this.#model, this.#root, signal),
      this.#signal,
    )
    return this.#publicStatistics
  }

  /** Experts of the finished trainings whose names are not among `published`. */
  async unpublished(published: readonly string[]): Promise<Expert[]> {
    const experts: Expert[] = []
    for (const name of await this.finished()) {
      if (!published.includes(name)) experts.push((await this.load(name)).expert)
    }
    return experts
  }

  /** Train an expert; the last event has its result. @throws as `trainExpert`. */
  train(request: TrainRequest, signal: AbortSignal): AsyncGenerator<TrainEvent, void, void> {
    return trainExpert(this.#engine, this.#model, this.#root, request, this.#either(signal))
  }

  /** Write the pair to train elsewhere into `directory`. @throws as `exportPair`. */
  exportPair(
    request: Pick<TrainRequest, 'name' | 'paths' | 'seed'>,
    directory: string,
    options: DirectoryOptions & { readonly signal: AbortSignal },
  ): Promise<PairExport> {
    const signal = this.#either(options.signal)
    return exportPair(this.#engine, this.#model, this.#root, request, directory, { ...options, signal })
  }

  /**
   * A finished training reduced to `rank` and scored; the training itself does not change.
   * @throws as `cutTrained`.
   */
  cut(name: string, rank: number, signal: AbortSignal): Promise<CutExpert> {
    const parts = { engine: this.#engine, publicModel: this.#model }
    return cutTrained(parts, this.#root, name, rank, this.#either(signal))
  }

  #either(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([this.#signal, signal])
  }
}
