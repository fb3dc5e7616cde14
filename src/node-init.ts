/** What a node is opened with. Types only. */
import type { AcceptancePolicy } from './acceptance/policy.ts'
import type { RouterChoice } from './composition/router.ts'
import type { Encrypter } from './exchange/transport.ts'
import type { WeightFormat } from './model/weight-format.ts'
import type { NodeEvent } from './node-event.ts'
import type { Engine } from './tensor/engine.ts'

export interface NodeInit {
  readonly home: string
  readonly engine: Engine
  readonly passphrase?: string
  readonly policy?: AcceptancePolicy
  readonly topK?: number
  /** Default `auto`. */
  readonly router?: RouterChoice
  /** How answers hold weights in memory; default fp32. */
  readonly weights?: WeightFormat
  /** Unix seconds. */
  readonly now: () => number
  readonly onEvent?: (event: NodeEvent) => void
  /** For tests that look at what leaves the node. */
  readonly encrypter?: Encrypter
}
