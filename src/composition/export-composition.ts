/**
 * `flexmesh compose --export`: writes a composition as a FlexOlmo folder that transformers and vLLM load without
 * conversion. Weights are copied from the public model and the packages in their published formats, piece by piece.
 * The format cannot hold low-rank experts, so their full-rank float32 weights are computed, one tensor at a time.
 * Another program computes from the folder what the node computes with router rows.
 */

import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import { byLayer, modelFilesOf, publicSources, valuesSource } from '../checkpoint/flex-olmo.ts'
import {
  checkTarget,
  type DirectoryOptions,
  type TensorSource,
  writeHuggingFaceDirectory,
} from '../checkpoint/huggingface-directory.ts'
import { openPublicModel, type PublicModel } from '../checkpoint/public-model.ts'
import { ROUTER_BIAS_FILE, writeRouterBias } from '../checkpoint/router-bias.ts'
import {
  fromFloat32,
  LENGTH_BYTES,
  readSafetensorsHeader,
  safetensorsPrefixLength,
  type TensorLocation,
} from '../checkpoint/safetensors.ts'
import type { Digest } from '../lib/bytes.ts'
import { InputError, VerificationError } from '../lib/errors.ts'
import { fileRefOfPath } from '../lib/file-ref.ts'
import { PIECE_BYTES } from '../lib/files.ts'
import { expertName, FFN_PROJECTIONS, PAIR_EXPERT, routerName } from '../lib/tensor-names.ts'
import { materialised } from '../model/low-rank.ts'
import { type Expert, expertRank } from '../model/params.ts'
import { requireWeight, valuePieces } from '../model/weights.ts'
import type { Manifest } from '../packaging/manifest.ts'
import { checkExpertLayout } from '../packaging/package.ts'
import type { BlobReader } from '../store/blob-reader.ts'
import type { BlobStore } from '../store/blob-store.ts'
import { compositionDigest } from './compose.ts'
import { COMPOSITION_FILE, encodeCompositionFile } from './composition-file.ts'
import { type CompositionSource, describeComposition } from './describe.ts'

export interface CompositionExport extends DirectoryOptions {
  readonly directory: string
  readonly topK: number
  /** Leave router biases out of the model, and write them to a file beside it. */
  readonly dropBias: boolean
}

/** The parts of a node that an export reads. */
export interface Exporter extends CompositionSource {
  readonly publicModel: PublicModel
  readonly blobs: BlobStore
}

/**
 * @param experts in the order of the mixture
 * @returns names of the files written.
 * @throws InputError `exists` for a folder that is not empty, `usage` for an expert with a bias unless `dropBias`;
 * VerificationError `wrong-digest` for a package file that has changed on the disk.
 */
export async function exportComposition(
  node: Exporter,
  experts: readonly AcceptedExpert[],
  options: CompositionExport,
): Promise<string[]> {
  const { directory, topK, dropBias } = options
  await checkTarget(directory)
  const biased = experts.find(({ expert }) => expert.bias?.some((b) => b < 0))
  if (biased !== undefined && !dropBias) {
    throw new InputError(
      'usage',
      `${biased.institution}/${biased.name} has a router bias, which a FlexOlmo model cannot hold; leave the bias out with --drop-bias, or the expert with --exclude`,
    )
  }
  const model = await openPublicModel(node.publicModel.dir)
  const manifests: Manifest[] = []
  const sources: TensorSource[] = []
  for (const [i, { id, expert }] of experts.entries()) {
    const manifest = await node.manifestOf(id)
    manifests.push(manifest)
    const isLowRank = expertRank(expert) > 0
    sources.push(
      ...(isLowRank
        ? fullRankSources(node, expert, i + 1)
        : await expertSources(node, manifest, i + 1, options)),
    )
  }
  const files = await modelFilesOf(model, { experts: experts.length + 1, topK })
  // A model without its biases does not compute what the composition with this digest computes.
  if (biased !== undefined) files.set(ROUTER_BIAS_FILE, writeRouterBias(biasesOf(node, experts)))
  else files.set(COMPOSITION_FILE, encodeCompositionFile(await describeComposition(node, experts, topK)))
  files.set('README.md', readme(node, experts, manifests, topK, biased !== undefined))
  const tensors = byLayer([...publicSources(model), ...sources, ...routers(node, experts)])
  return writeHuggingFaceDirectory(directory, { tensors, files }, options)
}

/** FFN tensors of a package as expert `index` of the mixture, in their published format. */
async function expertSources(
  { blobs }: Exporter,
  manifest: Manifest,
  index: number,
  { signal }: DirectoryOptions,
): Promise<TensorSource[]> {
  const [file] = manifest.files
  const { ref } = await fileRefOfPath(blobs.path(file.sha256), signal)
  if (ref.sha256 !== file.sha256) {
    throw new VerificationError(
      'wrong-digest',
      `package file ${file.sha256}: the file on disk has digest ${ref.sha256}`,
    )
  }
  const layout = await withReader(blobs, file.sha256, async (reader) => {
    const start = await reader.read(0, Math.min(LENGTH_BYTES, file.size), signal)
    const prefix = await reader.read(0, safetensorsPrefixLength(start, file.size), signal)
    return readSafetensorsHeader(prefix, file.size)
  })
  checkExpertLayout(layout, manifest)
  async function* pieces({ offset, length }: TensorLocation): AsyncGenerator<Uint8Array, void, void> {
    const reader = await blobs.reader(file.sha256)
    try {
      for (let at = 0; at < length; at += PIECE_BYTES) {
        yield await reader.read(offset + at, Math.min(PIECE_BYTES, length - at), signal)
      }
    } finally {
      await reader.close()
    }
  }
  return Array.from({ length: manifest.expert.layers }, (_, layer) =>
    FFN_PROJECTIONS.map((projection): TensorSource => {
      const stored = layout.tensors.get(expertName(layer, PAIR_EXPERT, projection)) as TensorLocation
      return {
        name: expertName(layer, index, projection),
        dtype: manifest.expert.dtype,
        shape: stored.shape,
        pieces: () => pieces(stored),
      }
    }),
  ).flat()
}

/**
 * FFN tensors of a low-rank expert as expert `index` of the mixture: W_public + B A in float32, each computed when it
 * is written.
 */
function fullRankSources({ publicModel }: Exporter, expert: Expert, index: number): TensorSource[] {
  const { ffn } = materialised(expert, publicModel.weights)
  return Array.from({ length: publicModel.config.numHiddenLayers }, (_, layer) =>
    FFN_PROJECTIONS.map((projection): TensorSource => {
      const whole = requireWeight(ffn, `${layer}.${projection}`)
      return {
        name: expertName(layer, index, projection),
        dtype: 'F32',
        shape: whole.shape,
        pieces: async function* () {
          for await (const values of valuePieces(whole)) yield fromFloat32(values, 'F32')
        },
      }
    }),
  ).flat()
}

async function withReader<T>(
  blobs: BlobStore,
  digest: Digest,
  action: (reader: BlobReader) => Promise<T>,
): Promise<T> {
  const reader = await blobs.reader(digest)
  try {
    return await action(reader)
  } finally {
    await reader.close()
  }
}

/** Router rows [E, C] of each layer. Row 0 is the public model's, which is zero. */
function routers({ publicModel }: Exporter, experts: readonly AcceptedExpert[]): TensorSource[] {
  const { hiddenSize: C, numHiddenLayers: L } = publicModel.config
  return Array.from({ length: L }, (_, layer) => {
    const rows = new Float32Array((experts.length + 1) * C)
    experts.forEach(({ expert }, i) => {
      rows.set(expert.routerRows[layer] as Float32Array, (i + 1) * C)
    })
    return valuesSource(routerName(layer), [experts.length + 1, C], rows)
  })
}

/** Router biases [E] of each layer, as the router uses them: never above 0. */
function biasesOf({ publicModel }: Exporter, experts: readonly AcceptedExpert[]): Float32Array[] {
  return Array.from({ length: publicModel.config.numHiddenLayers }, (_, layer) =>
    Float32Array.from([0, ...experts.map(({ expert }) => Math.min(expert.bias?.[layer] ?? 0, 0))]),
  )
}

function readme(
  { charter }: Exporter,
  experts: readonly AcceptedExpert[],
  manifests: readonly Manifest[],
  topK: number,
  hasBias: boolean,
): string {
  const { name, digest } = charter.publicModel
  const ids = experts.map(({ id }) => id)
  const rows = manifests.map(({ expert, license, domain }, i) => {
    const { institution, peerId, id } = experts[i] as AcceptedExpert
    return `| ${[i + 1, institution, expert.name, domain, license, id, peerId].map(cell).join(' | ')} |`
  })
  const until = manifests.map(({ expiresAt }) => expiresAt).sort((a, b) => a - b)[0]
  const consent =
    until === undefined
      ? ''
      : `\nThe owners' consent ends when they withdraw an expert, and on ${new Date(until * 1000).toISOString().slice(0, 10)} at the latest unless they renew it; export again then.\n`
  const bias = hasBias
    ? `\nThis format cannot hold router biases, so they were left out of the model. \`${ROUTER_BIAS_FILE}\` has them: one F32 tensor [experts] per layer, to be added to the router's logits.\n`
    : ''
  const ranks = experts.flatMap(({ expert }, i) =>
    expertRank(expert) === 0 ? [] : [`expert ${i + 1} of rank ${expertRank(expert)}`],
  )
  const whole =
    ranks.length === 0
      ? ''
      : `\nPublished as low-rank differences from the public FFN, and written here as whole float32 weights, the sum of both: ${ranks.join(', ')}.\n`
  return `# ${cell(charter.name)}: a composition of ${experts.length + 1} experts

A \`FlexOlmoForCausalLM\`, written by FlexMesh; ${topK} of ${experts.length + 1} experts are active for a token. It
routes by the experts' router rows: the format cannot hold a gate solved from router statistics.

- composition: \`${compositionDigest(digest, ids, topK)}\`
- public model, expert 0: ${cell(name)}, \`${digest}\`

| expert | owner | name | domain | licence | package | publisher |
| --- | --- | --- | --- | --- | --- | --- |
${rows.join('\n')}
${consent}${whole}${bias}`
}

/** Text of an institution for a Markdown table: without characters that end a cell or begin markup. */
function cell(value: string | number): string {
  return String(value)
    .replaceAll('|', '\\|')
    .replaceAll(/[<>`\r\n]/g, ' ')
}
