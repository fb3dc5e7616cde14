/** What happens in a node, for people and logs. Types only. */
import type { Verdict } from '../acceptance/accept.ts'
import type { MembershipEvent } from '../consortium/membership-events.ts'
import type { Digest } from '../lib/bytes.ts'
import type { RouterKind } from '../model/gates.ts'
import type { PipelineEvent } from '../pipeline/parts.ts'
import type { TrainingEvent } from './activities.ts'
import type { EndingConsent } from './consent-warnings.ts'
import type { NodeKeyEnd } from './node-key-warnings.ts'
import type { OpenWithdrawal } from './withdrawal-reminders.ts'

export type NodeEvent =
  | MembershipEvent
  | PipelineEvent
  | ({ readonly event: 'consent-ending' } & EndingConsent)
  | ({ readonly event: 'withdrawal-open' } & OpenWithdrawal)
  | ({ readonly event: 'node-key-ending' } & Pick<NodeKeyEnd, 'expiresAt' | 'daysLeft'>)
  | TrainingEvent
  | { readonly event: 'verdict'; readonly institution: string; readonly verdict: Verdict }
  | {
      readonly event: 'composed'
      readonly digest: Digest
      /** Names of the composed experts: institutions, with the expert where one has several. */
      readonly experts: readonly string[]
      readonly router: RouterKind
      /** Reason why the router is another one than the operator chose, for people; undefined if it is not. */
      readonly routerNote: string | undefined
    }

export type OnNodeEvent = (event: NodeEvent) => void
