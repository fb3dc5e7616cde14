/**
 * Composes the experts in use and serves the result. Owns the model that answers, and each earlier model until its
 * last answer is complete. Knows nothing about verdicts and the network.
 */
import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import type { WeightChoice } from '../inference/weight-format.ts'
import type { Digest } from '../lib/bytes.ts'
import { defaultMemoryBudget } from '../lib/memory.ts'
import type { RouterChoice } from '../model/gates.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import type { CodeFiles } from '../store/code-files.ts'
import type { Log } from '../telemetry/log.ts'
import type { Engine } from '../tensor/engine.ts'
import { type Composition, compose } from './compose.ts'
import { ComposedModel, type Lease, type Serving } from './composed-model.ts'

export interface ComposerInit {
  readonly engine: Engine
  readonly publicModel: PublicModel
  readonly publicModelDigest: Digest
  /** Maximum number of experts that are active for a token. */
  readonly topK: number
  readonly router: RouterChoice
  /** Format of the weights in memory while serving. */
  readonly weights: WeightChoice
  /** Bytes that serving may take. Default: `defaultMemoryBudget` when this is created. */
  readonly memory?: number | undefined
  /** Where codes of weights are kept. Default: nowhere. */
  readonly codes?: CodeFiles
  /** Experts in use now. */
  readonly experts: () => readonly AcceptedExpert[]
  /** Router statistics of the public text. Slow at the first call, so called only if a gate may be solved. */
  readonly publicStatistics: () => Promise<RouterStatistics>
  /** Called when a new composition is served. */
  readonly onComposed: (composition: Composition) => void
  /** Default: silent. */
  readonly log?: Log
}

export interface ComposeRequest {
  /** Default: the experts in use. */
  readonly experts?: readonly AcceptedExpert[]
  readonly topK?: number
  readonly router?: RouterChoice
}

export class Composer {
  readonly #init: ComposerInit
  #served: ComposedModel
  readonly #serving: Serving
  readonly #retiring = new Set<Promise<void>>()

  /** Serves the public model alone until `recompose`. */
  constructor(init: ComposerInit) {
    this.#init = init
    const { publicModel, publicModelDigest: digest, topK, weights, memory, codes: files, log } = init
    const onFailure = (error: unknown): void => log?.warn('coded weights are not kept', error)
    this.#serving = {
      weights,
      // Fixed now: later, the weights of this process itself take a part of the memory that is free now.
      memory: memory ?? defaultMemoryBudget(),
      ...(files === undefined ? {} : { codes: { files, publicModel: digest, onFailure } }),
    }
    this.#served = this.modelOf(
      compose(publicModel.config, { digest, weights: publicModel.weights }, [], topK),
    )
  }

  get topK(): number {
    return this.#init.topK
  }

  get router(): RouterChoice {
    return this.#init.router
  }

  /** The model that computes new answers. To generate with it, hold it: see `acquire`. */
  get served(): ComposedModel {
    return this.#served
  }

  /** Hold the model that computes new answers, until the lease is released. @throws Error after `dispose`. */
  acquire(): Lease {
    return this.#served.acquire()
  }

  /** A model of another composition than the served one; the caller retires it. */
  modelOf(composition: Composition): ComposedModel {
    const { engine, publicModel } = this.#init
    const earlier = Promise.allSettled(this.#retiring)
    return new ComposedModel(engine, publicModel, composition, this.#serving, earlier)
  }

  /** Compose experts without serving the result. */
  async compose(request: ComposeRequest = {}): Promise<Composition> {
    const { publicModel, publicModelDigest: digest } = this.#init
    const { topK = this.topK, router = this.router } = request
    const wanted = (): readonly AcceptedExpert[] => request.experts ?? this.#init.experts()
    const publicStatistics = await this.#statisticsFor(router, wanted())
    // Read again after the wait: an expert may have been withdrawn meanwhile.
    const experts = wanted()
    const { config, weights } = publicModel
    return compose(config, { digest, weights }, experts, topK, { router, publicStatistics })
  }

  /** Whether answers are made with this package now. */
  serves(id: Digest): boolean {
    return this.#served.composition.experts.some((expert) => expert.id === id)
  }

  /** Serve the experts in use from now on, and report a change. Answers that have begun end with the model before. */
  async recompose(): Promise<void> {
    if (await this.serve()) this.#init.onComposed(this.#served.composition)
  }

  /**
   * Serve the experts in use from now on without a report: a node that opens has changed nothing.
   * @returns whether that is another composition; the same one keeps its model, with what it has computed.
   */
  async serve(): Promise<boolean> {
    const composition = await this.compose()
    const { digest, routerNote } = this.#served.composition
    if (composition.digest === digest && composition.routerNote === routerNote) return false
    const retired = this.#served.retire().then(() => void this.#retiring.delete(retired))
    retired.catch(() => undefined) // Stays in the set, so `dispose` throws it.
    this.#retiring.add(retired)
    this.#served = this.modelOf(composition)
    return true
  }

  /** Waits until the answers that have begun are complete, then frees all memory. @throws what keeps it from that. */
  async dispose(): Promise<void> {
    await Promise.all([...this.#retiring, this.#served.retire()])
  }

  async #statisticsFor(
    router: RouterChoice,
    experts: readonly AcceptedExpert[],
  ): Promise<RouterStatistics | undefined> {
    if (router === 'rows' || experts.every(({ expert }) => expert.statistics === undefined)) return undefined
    try {
      return await this.#init.publicStatistics()
    } catch (error) {
      // An expert that was withdrawn must leave the composition whatever the state of the public text.
      this.#init.log?.error('the public text has no statistics, so router rows route', error)
      return undefined
    }
  }
}
