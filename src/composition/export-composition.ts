/**
 * `flexmesh compose --export`: writes a composition as a FlexOlmo folder that transformers and vLLM load without
 * conversion. Weights are copied from the public model and the packages in their published formats, piece by piece, and
 * packages are verified while they are copied. The format cannot hold low-rank experts, so their full-rank float32
 * weights are computed, some rows at a time. Another program computes from the folder what the node computes with router
 * rows.
 */

import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import { byLayer, modelFilesOf, publicTensors } from '../checkpoint/flex-olmo.ts'
import {
  checkTarget,
  type DirectoryOptions,
  writeHuggingFaceDirectory,
} from '../checkpoint/huggingface-directory.ts'
import { openPublicModel } from '../checkpoint/public-model.ts'
import { ROUTER_BIAS_FILE, writeRouterBias } from '../checkpoint/router-bias.ts'
import type { NamedTensor } from '../checkpoint/tensor-file.ts'
import { InputError } from '../lib/errors.ts'
import { expertName, FFN_PROJECTIONS, routerName } from '../lib/tensor-names.ts'
import { type Expert, expertFfn, expertRank } from '../model/params.ts'
import type { Manifest } from '../packaging/manifest.ts'
import { privacyWords } from '../packaging/privacy-words.ts'
import { compositionDigest } from './compose.ts'
import { COMPOSITION_FILE, encodeCompositionFile } from './composition-file.ts'
import { describeComposition } from './describe.ts'
import { type Exporter, wholeExpert } from './whole-expert.ts'

export interface CompositionExport extends DirectoryOptions {
  readonly directory: string
  readonly topK: number
  /** Leave router biases out of the model, and write them to a file beside it. */
  readonly dropBias: boolean
}

/**
 * @param experts in the order of the mixture
 * @returns names of the files written.
 * @throws InputError `exists` for a folder that is not empty, `usage` for an expert with a bias unless `dropBias`,
 * `disk-full` before anything is written, `not-found` if a package is withdrawn meanwhile; VerificationError
 * `wrong-digest` for a package file that has changed on the disk.
 */
export async function exportComposition(
  node: Exporter,
  experts: readonly AcceptedExpert[],
  options: CompositionExport,
): Promise<string[]> {
  const { directory, topK, dropBias, signal } = options
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
  const expertTensors: NamedTensor[] = []
  for (const [i, { id }] of experts.entries()) {
    const manifest = await node.manifestOf(id)
    manifests.push(manifest)
    expertTensors.push(...ffnTensors(await wholeExpert(node, manifest, signal), i + 1))
  }
  const files = await modelFilesOf(model, { experts: experts.length + 1, topK })
  // A model without its biases does not compute what the composition with this digest computes.
  if (biased !== undefined) files.set(ROUTER_BIAS_FILE, writeRouterBias(biasesOf(node, experts)))
  else files.set(COMPOSITION_FILE, encodeCompositionFile(await describeComposition(node, experts, topK)))
  files.set('README.md', readme(node, experts, manifests, topK, biased !== undefined))
  const tensors = byLayer([...publicTensors(model), ...expertTensors, ...routers(node, experts)])
  return writeHuggingFaceDirectory(directory, { tensors, files }, options)
}

/** FFN tensors of an expert of full rank as expert `index` of the mixture, in the formats of their weights. */
function ffnTensors(expert: Expert, index: number): NamedTensor[] {
  return expert.routerRows.flatMap((_, layer) =>
    FFN_PROJECTIONS.map((projection) => ({
      name: expertName(layer, index, projection),
      weight: expertFfn(expert, `${layer}.${projection}`),
    })),
  )
}

/** Router rows [E, C] of each layer. Row 0 is the public model's, which is zero. */
function routers({ publicModel }: Exporter, experts: readonly AcceptedExpert[]): NamedTensor[] {
  const { hiddenSize: C, numHiddenLayers: L } = publicModel.config
  return Array.from({ length: L }, (_, layer) => {
    const rows = new Float32Array((experts.length + 1) * C)
    experts.forEach(({ expert }, i) => {
      rows.set(expert.routerRows[layer] as Float32Array, (i + 1) * C)
    })
    return { name: routerName(layer), weight: { shape: [experts.length + 1, C], data: rows } }
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
  const rows = manifests.map(({ expert, license, domain, privacy }, i) => {
    const { institution, peerId, id } = experts[i] as AcceptedExpert
    return `| ${[i + 1, institution, expert.name, domain, license, privacyWords(privacy), id, peerId].map(cell).join(' | ')} |`
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

| expert | owner | name | domain | licence | privacy | package | publisher |
| --- | --- | --- | --- | --- | --- | --- | --- |
${rows.join('\n')}
${consent}${whole}${bias}`
}

/** Text of an institution for a Markdown table: without characters that end a cell or begin markup. */
function cell(value: string | number): string {
  return String(value)
    .replaceAll('|', '\\|')
    .replaceAll(/[<>`\r\n]/g, ' ')
}
