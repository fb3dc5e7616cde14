/** What a node is opened with. Types only. */
import type { AcceptancePolicy } from '../acceptance/policy.ts'
import type { WeightFormat } from '../inference/weight-format.ts'
import type { RouterChoice } from '../model/gates.ts'
import type { Encrypter } from '../network/transport.ts'
import type { Log } from '../telemetry/log.ts'
import type { Engine } from '../tensor/engine.ts'
import type { OnNodeEvent } from './events.ts'

export interface NodeInit {
  readonly home: string
  readonly engine: Engine
  readonly passphrase?: string
  readonly policy?: AcceptancePolicy
  /** Experts active for a token, at most; default `DEFAULT_TOP_K`. */
  readonly topK?: number
  /** Default `auto`. */
  readonly router?: RouterChoice
  /** How answers hold weights in memory; default fp32. */
  readonly weights?: WeightFormat
  /** Unix seconds. */
  readonly now: () => number
  readonly onEvent?: OnNodeEvent
  /** Default: silent. */
  readonly log?: Log
  /** For tests that look at what leaves the node. */
  readonly encrypter?: Encrypter
}
