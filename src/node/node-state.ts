/** What the data path needs of a node: its collaborators and what it knows now. Types only. */
import type { AcceptanceContext } from '../acceptance/accept.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import type { AcceptedExpert } from '../composition/compose.ts'
import type { Charter } from '../consortium/charter.ts'
import type { Roster } from '../consortium/roster.ts'
import type { Identity } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import type { HeldOutDocument } from '../model/evaluate.ts'
import type { RouterChoice } from '../model/gates.ts'
import type { Expert } from '../model/params.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import type { BlobStore } from '../store/blob-store.ts'
import type { Catalogue } from '../store/catalogue.ts'
import type { Engine } from '../tensor/engine.ts'

export interface NodeState {
  readonly identity: Identity
  readonly consortium: Digest
  readonly charter: Charter
  readonly publicModel: PublicModel
  readonly catalogue: Catalogue
  readonly blobs: BlobStore
  readonly engine: Engine
  readonly topK: number
  readonly router: RouterChoice
  /** Unix seconds. */
  readonly now: () => number
  roster(): Roster
  composed(): readonly AcceptedExpert[]
  acceptanceContext(): AcceptanceContext
  /** Held-out documents of our own trainings; may be empty. */
  ownText(): Promise<readonly HeldOutDocument[]>
  publicText(): Promise<readonly HeldOutDocument[]>
  /** Of the public text, beside which gates are solved. */
  publicStatistics(): Promise<RouterStatistics>
  /** Experts in use, and our own finished trainings that are not: what a foreign one is measured beside. */
  baseline(): Promise<readonly Expert[]>
}
