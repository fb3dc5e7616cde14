/**
 * A node in front of an upstream that serves an exported composition: decides for each request whether the upstream
 * may answer it. Knows nothing about HTTP and the parts of a node.
 */
import {
  type ComposedExpert,
  type CompositionFile,
  decodeCompositionFile,
} from '../composition/composition-file.ts'
import { isNamed, type Selection } from '../composition/selection.ts'
import type { Digest } from '../lib/bytes.ts'
import { VerificationError } from '../lib/errors.ts'
import { readFileBounded } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { type Backend, type Needs, ServingError } from './engine.ts'
import type { LocalBackend } from './local-engine.ts'
import type { PromptEncoder } from './prompt.ts'
import { upstreamEngine } from './upstream-engine.ts'
import type { Vocabulary } from './vocabulary.ts'

/** Where an upstream is, and what it serves. */
export interface Upstream {
  readonly url: URL
  /** Path of the `composition.json` of the export that the upstream serves. */
  readonly compositionFile: string
  readonly apiKey?: string
}

export interface GatewayInit {
  readonly upstream: Upstream
  /** Answers the requests that the upstream may not answer. */
  readonly local: LocalBackend
  /** Digests of this node's charter and public model, which the export must name. */
  readonly consortium: Digest
  readonly publicModel: Digest
  readonly prompts: PromptEncoder
  readonly vocabulary: Vocabulary
  /** Maximum number of tokens of prompt and answer together. */
  readonly contextLength: number
  /** Why this node does not use the expert of a package, for people; undefined if it does. */
  readonly whyNotInUse: (id: Digest) => Promise<string | undefined>
  /** Called with the composition that the upstream serves. */
  readonly onComposition: (composition: CompositionFile) => void
  /** Unix seconds. */
  readonly now: () => number
  /** Called before a prompt is sent to the upstream, see `UpstreamInit`. */
  readonly onPrompt?: (to: string, bytes: number) => void
}

/**
 * @returns the backend for a request with a selection of experts. The upstream's `acquire` throws ServingError
 * `expert_not_in_use` while the upstream serves an expert that this node does not use.
 * @throws FormatError; VerificationError `wrong-digest`, `wrong-consortium`, `wrong-public-model` for an export that
 * is not of this node's consortium and public model.
 */
export async function openGateway(init: GatewayInit): Promise<(needs: Needs) => Backend> {
  const { upstream, local, prompts, vocabulary, contextLength } = init
  const composition = await readComposition(init)
  init.onComposition(composition)
  const engine = upstreamEngine({
    url: upstream.url,
    composition,
    contextLength,
    prompts,
    vocabulary,
    // A name that matches no expert of this node is a mistake, whichever backend answers.
    checkSelection: (selection) => {
      const own = local.acquire()
      try {
        own.checkSelection(selection)
      } finally {
        own.release()
      }
    },
    ...(upstream.apiKey === undefined ? {} : { apiKey: upstream.apiKey }),
    ...(init.onPrompt === undefined ? {} : { onPrompt: init.onPrompt }),
  })
  const remote: Backend = {
    servedBy: 'upstream',
    acquire: async () => {
      for (const expert of composition.experts) await requireInUse(init, expert)
      return engine
    },
  }
  return (needs) => {
    // The text of an upstream could not be held to a constraint before it is passed on.
    const isOwn = needs.constraint !== undefined || needs.isEmbedding === true
    return isOwn || leavesOut(composition, needs) ? local : remote
  }
}

async function readComposition({ upstream, consortium, publicModel }: GatewayInit): Promise<CompositionFile> {
  const path = upstream.compositionFile
  const composition = decodeCompositionFile(await readFileBounded(path, limit('compositionFileBytes')))
  if (composition.consortium !== consortium) {
    throw new VerificationError(
      'wrong-consortium',
      `${path}: expected an export of consortium ${consortium}, got one of ${composition.consortium}`,
    )
  }
  if (composition.publicModel !== publicModel) {
    throw new VerificationError(
      'wrong-public-model',
      `${path}: expected an export with public model ${publicModel}, got ${composition.publicModel}`,
    )
  }
  return composition
}

/** Whether a selection leaves out an expert of the composition, which an upstream cannot do. */
function leavesOut({ experts }: CompositionFile, { include, exclude }: Selection): boolean {
  const isIn = (names: readonly string[], expert: ComposedExpert): boolean =>
    names.some((name) => isNamed(expert, name))
  return experts.some(
    (expert) => isIn(exclude ?? [], expert) || (include !== undefined && !isIn(include, expert)),
  )
}

/** @throws ServingError `expert_not_in_use`, naming the expert and the reason. */
async function requireInUse({ whyNotInUse, now }: GatewayInit, expert: ComposedExpert): Promise<void> {
  const { id, name, institution, expiresAt } = expert
  const isExpired = expiresAt + limit('clockSkew') < now()
  const why = isExpired
    ? `expired, its owner's consent ended at ${new Date(expiresAt * 1000).toISOString()}`
    : await whyNotInUse(id)
  if (why === undefined) return
  throw new ServingError(
    503,
    'expert_not_in_use',
    `the upstream serves ${name} of ${institution}, which this node does not use: ${why}; export a composition without it, serve that, and start this node with its composition.json`,
  )
}
