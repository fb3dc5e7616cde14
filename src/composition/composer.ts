/** What a node composes: experts that it accepted, with its own top-k and router unless somebody asks for others. */

import type { RouterChoice } from '../model/gates.ts'
import type { Expert } from '../model/params.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import type { NodeState } from '../node/node-state.ts'
import { type AcceptedExpert, type Composition, compose } from './compose.ts'

export interface ComposeRequest {
  readonly experts?: readonly AcceptedExpert[]
  readonly topK?: number
  readonly router?: RouterChoice
}

export async function composeExperts(node: NodeState, request: ComposeRequest = {}): Promise<Composition> {
  const { topK = node.topK, router = node.router } = request
  const wanted = (): readonly AcceptedExpert[] => request.experts ?? node.composed()
  const publicStatistics = await statisticsFor(
    node,
    router,
    wanted().map(({ expert }) => expert),
  )
  const { config, params } = node.publicModel
  const publicModel = { digest: node.charter.publicModel.digest, params }
  // Read again: an expert may have been withdrawn meanwhile.
  return compose(config, publicModel, wanted(), topK, { router, publicStatistics })
}

/** Statistics of the public text, which take a while the first time: only where they make a difference. */
export async function statisticsFor(
  node: NodeState,
  router: RouterChoice,
  experts: readonly Expert[],
): Promise<RouterStatistics | undefined> {
  const isNeeded = router !== 'rows' && experts.some(({ statistics }) => statistics !== undefined)
  return isNeeded ? node.publicStatistics() : undefined
}
