/**
 * What this node composes and serves: the accepted experts, with the node's top-k and router unless somebody asks
 * for others. Owns the model that answers, and earlier ones until their last answer is complete. Knows neither
 * verdicts nor network.
 */
import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import type { WeightFormat } from '../inference/weight-format.ts'
import type { Digest } from '../lib/bytes.ts'
import type { RouterChoice } from '../model/gates.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import type { Engine } from '../tensor/engine.ts'
import { type Composition, compose } from './compose.ts'
import { ComposedModel, type Lease } from './composed-model.ts'

export interface ComposerInit {
  readonly engine: Engine
  readonly publicModel: PublicModel
  readonly publicModelDigest: Digest
  /** Experts active for a token, at most. */
  readonly topK: number
  readonly router: RouterChoice
  /** How answers hold weights in memory. */
  readonly weights: WeightFormat
  /** Experts in use now. */
  readonly experts: () => readonly AcceptedExpert[]
  /** Statistics of the public text; slow the first time, so only asked for where a gate may be solved. */
  readonly publicStatistics: () => Promise<RouterStatistics>
  /** A new composition is served. */
  readonly onComposed: (composition: Composition) => void
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
  readonly #retiring = new Set<Promise<void>>()

  /** Serves the public model alone until `recompose`. */
  constructor(init: ComposerInit) {
    this.#init = init
    const { publicModel, publicModelDigest: digest, topK } = init
    this.#served = this.modelOf(compose(publicModel.config, { digest, params: publicModel.params }, [], topK))
  }

  get topK(): number {
    return this.#init.topK
  }

  get router(): RouterChoice {
    return this.#init.router
  }

  /** The model that new answers come from. Who generates with it must hold it: see `acquire`. */
  get served(): ComposedModel {
    return this.#served
  }

  /** Hold the model that new answers come from. */
  acquire(): Lease {
    return this.#served.acquire()
  }

  /** A model of another composition than the served one; the caller retires it. */
  modelOf(composition: Composition): ComposedModel {
    const { engine, publicModel, weights } = this.#init
    return new ComposedModel(engine, publicModel, composition, weights)
  }

  async compose(request: ComposeRequest = {}): Promise<Composition> {
    const { publicModel, publicModelDigest: digest } = this.#init
    const { topK = this.topK, router = this.router } = request
    const wanted = (): readonly AcceptedExpert[] => request.experts ?? this.#init.experts()
    const publicStatistics = await this.#statisticsFor(router, wanted())
    // Asked again after the wait: an expert may have been withdrawn meanwhile.
    const experts = wanted()
    const { config, params } = publicModel
    return compose(config, { digest, params }, experts, topK, { router, publicStatistics })
  }

  /** Serve the experts in use from now on; answers that were begun are completed by the model before. */
  async recompose(): Promise<void> {
    const composition = await this.compose()
    const retired = this.#served.retire().finally(() => this.#retiring.delete(retired))
    this.#retiring.add(retired)
    this.#served = this.modelOf(composition)
    this.#init.onComposed(composition)
  }

  /** Completes answers that were begun, then frees all memory. */
  async dispose(): Promise<void> {
    await Promise.all([...this.#retiring, this.#served.retire()])
  }

  async #statisticsFor(
    router: RouterChoice,
    experts: readonly AcceptedExpert[],
  ): Promise<RouterStatistics | undefined> {
    const isNeeded = router !== 'rows' && experts.some(({ expert }) => expert.statistics !== undefined)
    return isNeeded ? this.#init.publicStatistics() : undefined
  }
}
