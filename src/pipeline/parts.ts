/**
 * The parts of a node that the data path runs through, and what it reports. Knows no step.
 */
import type { AcceptedExperts } from '../acceptance/accepted-experts.ts'
import type { PackageStates } from '../acceptance/package-states.ts'
import type { AcceptancePolicy } from '../acceptance/policy.ts'
import type { AcceptanceQueue } from '../acceptance/queue.ts'
import type { Standing } from '../acceptance/standing.ts'
import type { Verdicts } from '../acceptance/verdicts.ts'
import type { WithdrawnWeights } from '../acceptance/withdrawn-weights.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import type { Composer } from '../composition/composer.ts'
import type { Exports } from '../composition/exports.ts'
import type { UpstreamComposition } from '../composition/upstream-composition.ts'
import type { Membership } from '../consortium/membership.ts'
import type { Identity } from '../identity/keys.ts'
import type { NodeJobRunner } from '../jobs/table.ts'
import type { Digest } from '../lib/bytes.ts'
import { FlexMeshError } from '../lib/errors.ts'
import type { FileRef } from '../lib/file-ref.ts'
import type { Serial } from '../lib/serial.ts'
import type { Trainings } from '../owner/trainings.ts'
import type { StatementLog } from '../statements/statement-log.ts'
import type { WithdrawalLedger } from '../statements/withdrawal-ledger.ts'
import type { BlobStore } from '../store/blob-store.ts'
import type { Catalogue } from '../store/catalogue.ts'
import type { DiskSpace } from '../store/disk-space.ts'
import type { HomeMark } from '../store/home-mark.ts'
import type { Log } from '../telemetry/log.ts'
import type { CosignedLogs } from '../transparency/cosigned-logs.ts'
import type { Witness } from '../transparency/witness.ts'
import type { OwnLogClaims } from './own-log-claims.ts'

/** What happens on the data path, for people and logs. */
export type PipelineEvent =
  | { readonly event: 'published'; readonly id: Digest; readonly expert: string }
  | {
      readonly event: 'fetching'
      readonly expert: string
      readonly institution: string
      readonly bytes: number
    }
  | { readonly event: 'withdrawn'; readonly institution: string; readonly id: Digest }
  /** Members hold later statements of this node than its own home: the home was set back. */
  | { readonly event: 'set-back' }
  | {
      readonly event: 'forked'
      readonly institution: string
      readonly peerId: string
      /** Whether it is this node's own log. */
      readonly isOwn: boolean
    }
  /** A checkpoint of a log has the cosignatures of the quorum: its first `size` statements are final. */
  | { readonly event: 'final'; readonly institution: string; readonly size: number }
  /** A publisher has signed checkpoints that contradict each other or its statements. */
  | { readonly event: 'contradiction'; readonly institution: string; readonly peerId: string }
  | {
      /** A seat has stated its keys. */
      readonly event: 'keys'
      readonly institution: string
      /** Id of the seat. */
      readonly peerId: string
      readonly isOwn: boolean
      /** Whether the institution key is another one than before. */
      readonly isRotation: boolean
      /** The node key that rules now; undefined if only the institution key signs. */
      readonly node: string | undefined
    }

export interface FetchOptions {
  readonly signal: AbortSignal
  /** Called with the number of verified bytes on disk. */
  readonly onProgress: (doneBytes: number) => void
}

/** The parts of a node that the data path runs through. Each owns its own state. */
export interface Parts {
  readonly identity: Identity
  readonly publicModel: PublicModel
  readonly blobs: BlobStore
  readonly catalogue: Catalogue
  readonly membership: Membership
  readonly statements: StatementLog
  readonly ledger: WithdrawalLedger
  readonly logs: CosignedLogs
  readonly witness: Witness
  readonly trainings: Trainings
  readonly mark: HomeMark
  /** What members claim to hold of our own log. */
  readonly claims: OwnLogClaims
  readonly policy: AcceptancePolicy
  /** Runs long computations. */
  readonly jobs: NodeJobRunner
  readonly queue: AcceptanceQueue
  /** States of the packages that have no verdict yet. */
  readonly states: PackageStates
  readonly space: DiskSpace
  readonly verdicts: Verdicts
  readonly accepted: AcceptedExperts
  readonly withdrawnWeights: WithdrawnWeights
  readonly standing: Standing
  readonly composer: Composer
  /** Models that this node has exported. */
  readonly exports: Exports
  readonly upstream: UpstreamComposition
  /** Our own statements are signed and logged one after the other. */
  readonly signing: Serial
  /**
   * Bring a file into the blob store. @throws ExchangeError; VerificationError if the signer of the reference lied;
   * InputError `disk-full`.
   */
  readonly fetch: (file: FileRef, options: FetchOptions) => Promise<void>
  /** Whether something was learned that other members may not have heard of. */
  readonly news: { isPending: boolean }
  /** Announce our head to connected members; without a network nothing happens. */
  readonly sendHead: (head: Uint8Array) => Promise<void>
  /** Let other members cosign our log soon; without a network nothing happens. */
  readonly requestCosignatures: () => void
  /** Close the connections of a peer; without a network nothing happens. */
  readonly disconnect: (peer: string) => Promise<void>
  readonly log: Log
  readonly onEvent: (event: PipelineEvent) => void
  /** Unix seconds. */
  readonly now: () => number
  /** Aborted when the node stops. */
  readonly signal: AbortSignal
}

/** True if the signed or received data is at fault; false for faults of this machine or the network. */
export function isRefusal(error: unknown): error is FlexMeshError {
  return error instanceof FlexMeshError && ['format', 'verification', 'policy'].includes(error.family)
}
