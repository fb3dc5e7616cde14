/** What happens in a node, for people and logs. Types only. */
import type { Verdict } from '../acceptance/accept.ts'
import type { MembershipEvent } from '../consortium/membership.ts'
import type { Digest } from '../lib/bytes.ts'
import type { RouterKind } from '../model/gates.ts'
import type { PipelineEvent } from '../pipeline.ts'

export type NodeEvent =
  | MembershipEvent
  | PipelineEvent
  | { readonly event: 'verdict'; readonly institution: string; readonly verdict: Verdict }
  | {
      readonly event: 'composed'
      readonly digest: Digest
      /** Institutions of the composed experts. */
      readonly experts: readonly string[]
      readonly router: RouterKind
      /** Why the router is not the one that was asked for, for people. */
      readonly routerNote: string | undefined
    }

export type OnNodeEvent = (event: NodeEvent) => void
