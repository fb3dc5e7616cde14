/** The settings with which a node is opened. Types only. */
import type { AcceptancePolicy } from '../acceptance/policy.ts'
import type { Membership } from '../consortium/membership.ts'
import type { Identity } from '../identity/keys.ts'
import type { WeightChoice } from '../inference/weight-format.ts'
import type { RouterChoice } from '../model/gates.ts'
import type { Encrypter } from '../network/transport.ts'
import type { Log } from '../telemetry/log.ts'
import type { Engine } from '../tensor/engine.ts'
import type { EngineChoice } from '../tensor/select-engine.ts'
import type { OnNodeEvent } from './events.ts'

export interface NodeInit {
  readonly home: string
  readonly engine: Engine
  /** Run long computations in threads, whose engine this chooses; default: in the calling thread. */
  readonly jobThreads?: EngineChoice
  readonly passphrase?: string
  /**
   * Chooses another key than that of the home, such as the institution key, for this run of the node.
   * @param home the key of the home
   */
  readonly actAs?: (membership: Membership, home: Identity) => Promise<Identity>
  /** The command that opens the node, for messages of other processes that find the home in use. */
  readonly command?: string
  /** Options that lead a command to this home, for commands in messages, as in `--home /srv/node`; default: none. */
  readonly homeOptions?: readonly string[]
  readonly policy?: AcceptancePolicy
  /** Whether packages of other members wait until their manifests are final; default: no. */
  readonly requireFinal?: boolean
  /** Maximum number of experts that are active for one token; default `DEFAULT_TOP_K`. */
  readonly topK?: number
  /** Default `auto`. */
  readonly router?: RouterChoice
  /** Format of the weights in memory that answers are computed from; default `auto`. */
  readonly weights?: WeightChoice
  /** Bytes that serving may take; default `defaultMemoryBudget`. */
  readonly memory?: number
  /** Bytes that the home folder may take; default: what the disk has. */
  readonly maxDisk?: number | undefined
  /** Unix seconds. */
  readonly now: () => number
  readonly onEvent?: OnNodeEvent
  /** Default: silent. */
  readonly log?: Log
  /** Encryption of connections, for tests that record what the node sends; default noise. */
  readonly encrypter?: Encrypter
}
