/** What happens in a node, for people and logs. Types only. */
import type { Verdict } from '../acceptance/accept.ts'
import type { Digest } from '../lib/bytes.ts'
import type { RouterKind } from '../model/gates.ts'

export type NodeEvent =
  | { readonly event: 'member'; readonly institution: string }
  | { readonly event: 'revoked'; readonly institution: string }
  | { readonly event: 'request'; readonly institution: string; readonly peerId: string }
  | { readonly event: 'published'; readonly id: Digest; readonly expert: string }
  | {
      readonly event: 'fetching'
      readonly expert: string
      readonly institution: string
      readonly bytes: number
    }
  | { readonly event: 'verdict'; readonly institution: string; readonly verdict: Verdict }
  | { readonly event: 'withdrawn'; readonly institution: string; readonly id: Digest }
  | {
      readonly event: 'composed'
      readonly digest: Digest
      /** Institutions. */
      readonly experts: readonly string[]
      readonly router: RouterKind
      readonly routerNote: string | undefined
    }

export type OnNodeEvent = (event: NodeEvent) => void
