/** What a composition of a node is made of, for the file beside exported weights. */

import { InputError } from '../lib/errors.ts'
import type { NodeState } from '../node/node-state.ts'
import { openManifest } from '../packaging/manifest.ts'
import { type AcceptedExpert, compositionDigest } from './compose.ts'
import type { CompositionFile } from './composition-file.ts'

/** @param experts in the order of the mixture. */
export async function describeComposition(
  state: Pick<NodeState, 'catalogue' | 'charter' | 'consortium'>,
  experts: readonly AcceptedExpert[],
  topK: number,
): Promise<CompositionFile> {
  const publicModel = state.charter.publicModel.digest
  const ids = experts.map(({ id }) => id)
  return {
    consortium: state.consortium,
    publicModel,
    composition: compositionDigest(publicModel, ids, topK),
    topK,
    experts: await Promise.all(
      experts.map(async ({ id, name, institution }) => {
        const envelope = await state.catalogue.statement(id)
        if (envelope === undefined)
          throw new InputError('not-found', `the statement of package ${id} is missing`)
        const { license, expiresAt } = openManifest(envelope).manifest
        return { id, name, institution, license, expiresAt }
      }),
    ),
  }
}
