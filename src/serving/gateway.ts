/**
 * A node in front of an upstream that serves an exported composition: decides, for every request anew,
 * whether the upstream may answer it. Knows no HTTP.
 */

import {
  type ComposedExpert,
  type CompositionFile,
  decodeCompositionFile,
} from '../composition/composition-file.ts'
import { isNamed, type Selection } from '../composition/selection.ts'
import { VerificationError } from '../lib/errors.ts'
import { readFileBounded } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import type { FlexMeshNode } from '../node/node.ts'
import { type ServingEngine, ServingError } from './app.ts'
import { upstreamEngine } from './upstream-engine.ts'

export interface GatewayInit {
  readonly url: URL
  /** The `composition.json` of the export that the upstream serves. */
  readonly compositionFile: string
  readonly apiKey?: string
}

export interface Gateway {
  readonly composition: CompositionFile
  /** @throws ServingError `expert_not_in_use`. */
  engineFor(selection: Selection): Promise<ServingEngine>
}

/**
 * @throws FormatError; VerificationError `wrong-digest`, `wrong-consortium`, `wrong-public-model` for a
 * composition that cannot be one of this node.
 */
export async function openGateway(
  node: FlexMeshNode,
  local: () => ServingEngine,
  init: GatewayInit,
): Promise<Gateway> {
  const bytes = await readFileBounded(init.compositionFile, limit('compositionFileBytes'))
  const composition = decodeCompositionFile(bytes)
  if (composition.consortium !== node.consortium) {
    throw new VerificationError(
      'wrong-consortium',
      `${init.compositionFile}: expected an export of consortium ${node.consortium}, got one of ${composition.consortium}`,
    )
  }
  const expected = node.charter.publicModel.digest
  if (composition.publicModel !== expected) {
    throw new VerificationError(
      'wrong-public-model',
      `${init.compositionFile}: expected an export with public model ${expected}, got ${composition.publicModel}`,
    )
  }
  const { tokenizer } = node.publicModel
  const upstream = upstreamEngine({
    url: init.url,
    composition,
    contextLength: node.composer.served.contextLength,
    encode: (text) => tokenizer.encode(text),
    endOfText: tokenizer.endOfText,
    ...(init.apiKey === undefined ? {} : { apiKey: init.apiKey }),
  })
  return {
    composition,
    engineFor: async (selection) => {
      if (leavesOut(composition, selection)) return local()
      for (const expert of composition.experts) {
        const why = await notInUse(node, expert)
        if (why !== undefined) {
          throw new ServingError(
            503,
            'expert_not_in_use',
            `the upstream serves ${expert.name} of ${expert.institution}, which this node does not use: ${why}; export a composition without it and serve that`,
          )
        }
      }
      // A name that nobody has is a mistake, whoever answers.
      return { ...upstream, checkSelection: (request) => local().checkSelection(request) }
    },
  }
}

/** Whether a selection leaves out an expert of the composition, which an upstream cannot do. */
function leavesOut({ experts }: CompositionFile, { include, exclude }: Selection): boolean {
  const named = (names: readonly string[], expert: ComposedExpert): boolean =>
    names.some((name) => isNamed(expert, name))
  return experts.some(
    (expert) => named(exclude ?? [], expert) || (include !== undefined && !named(include, expert)),
  )
}

/** Why this node does not use an expert, in words; nothing when it does. */
async function notInUse(node: FlexMeshNode, expert: ComposedExpert): Promise<string | undefined> {
  if (expert.expiresAt + limit('clockSkew') < node.now())
    return `expired, its owner's consent ended at ${new Date(expert.expiresAt * 1000).toISOString()}`
  if (node.accepted.has(expert.id)) return undefined
  const verdict = await node.verdicts.get(expert.id)
  if (verdict?.outcome === 'refused') return `${verdict.code}, ${verdict.reason}`
  return 'it has not been accepted'
}
