/** The command `compose`: what a selection of accepted experts composes, and that composition as files. */
import type { Exporter } from '../composition/whole-expert.ts'
import type { Digest } from '../lib/bytes.ts'
import type { RouterKind } from '../model/gates.ts'
import type { FlexMeshNode } from '../node/node.ts'
import { type BytesProgress, bytesLine, countingBytes } from './bytes-progress.ts'
import { nodeCommand } from './command.ts'
import { EXCLUDE, INCLUDE, ROUTER, SHARD_MEGABYTES, shardBytes } from './common-parameters.ts'
import { flag, option, path, whole } from './parameters.ts'
import { type WithdrawnExport, withdrawnExportLine, withdrawnExports } from './withdrawn-exports.ts'

/** The public model and as many experts as a consortium has members. */
const MAX_TOP_K = 65

export interface ComposeResult {
  readonly composition: Digest
  readonly topK: number
  readonly router: RouterKind
  /** Why the router is not the one that was asked for, for people. */
  readonly routerNote?: string
  readonly experts: readonly { readonly id: Digest; readonly name: string; readonly institution: string }[]
  /** The composition that the files hold, if it is another one because they cannot hold a gate. */
  readonly exported?: { readonly composition: Digest; readonly router: RouterKind }
  /** With `--export`. */
  readonly directory?: string
  readonly files?: readonly string[]
  /** With `--export-onnx`. */
  readonly onnx?: { readonly directory: string; readonly files: readonly string[] }
  /** Earlier exports with experts that were withdrawn since. */
  readonly withdrawnExports?: readonly WithdrawnExport[]
}

export const COMPOSE = nodeCommand({
  name: 'compose',
  usage:
    'compose [--include NAME...] [--exclude NAME...] [--top-k K] [--router auto|solved|rows] [--export DIR] [--export-onnx DIR]',
  parameters: {
    include: INCLUDE,
    exclude: EXCLUDE,
    topK: option('top-k', 'maximum number of experts per token (default 4)', whole(1, MAX_TOP_K)),
    router: ROUTER,
    export: option('export', 'new folder for a Hugging Face FlexOlmoForCausalLM model', path),
    exportOnnx: option('export-onnx', 'new folder for the composition as one ONNX graph', path),
    shardMegabytes: SHARD_MEGABYTES,
    dropBias: flag(
      'drop-bias',
      'leave router biases out of the exported model and write them to a separate file',
    ),
  },
  async *run(node, request, signal): AsyncGenerator<BytesProgress, ComposeResult, void> {
    const { selectionMask } = await import('../composition/selection.ts')
    const { include, exclude } = request
    const accepted = node.accepted.list()
    const mask = selectionMask({ experts: accepted }, { include, exclude })
    const composition = await node.composer.compose({
      experts: accepted.filter((_, i) => mask[i + 1] === 0),
      topK: request.topK ?? node.composer.topK,
      router: request.router ?? node.composer.router,
    })
    const { digest, topK, experts, router, routerNote } = composition
    const { export: directory, exportOnnx: onnxDirectory } = request
    const isExported = directory !== undefined || onnxDirectory !== undefined
    const result: ComposeResult = {
      composition: digest,
      topK,
      router,
      ...(routerNote === undefined ? {} : { routerNote }),
      experts: experts.map(({ id, name, institution }) => ({ id, name, institution })),
      ...(router === 'solved' && isExported ? { exported: await exportedAs(node, experts, topK) } : {}),
    }
    const written: { -readonly [K in 'directory' | 'files' | 'onnx']?: ComposeResult[K] } = {}
    if (directory !== undefined) {
      const { exportComposition } = await import('../composition/export-composition.ts')
      written.directory = directory
      written.files = yield* countingBytes((onProgress) =>
        exportComposition(exporterOf(node), experts, {
          directory,
          topK,
          dropBias: request.dropBias,
          shardBytes: shardBytes(request.shardMegabytes),
          signal,
          onProgress,
        }),
      )
    }
    if (onnxDirectory !== undefined) {
      const { exportOnnx } = await import('../composition/export-onnx.ts')
      const files = yield* countingBytes((onProgress) =>
        exportOnnx(exporterOf(node), composition, {
          directory: onnxDirectory,
          signal,
          onProgress,
        }),
      )
      written.onnx = { directory: onnxDirectory, files }
    }
    await recordExports(node, result, [directory, onnxDirectory])
    const withdrawn = await withdrawnExports(node)
    return { ...result, ...written, ...(withdrawn.length === 0 ? {} : { withdrawnExports: withdrawn }) }
  },
  words: (result) => [...composeLines(result), ...(result.withdrawnExports ?? []).map(withdrawnExportLine)],
  progress: bytesLine,
})

function composeLines({
  composition,
  topK,
  router,
  routerNote,
  experts,
  exported,
  directory,
  onnx,
}: ComposeResult): string[] {
  return [
    `composition ${composition}, top-${topK}, router ${router}`,
    `public model${experts.map(({ institution, name }) => ` + ${institution}/${name}`).join('')}`,
    ...(routerNote === undefined ? [] : [routerNote]),
    ...(exported === undefined
      ? []
      : [`exported models cannot hold a gate and route by router rows: composition ${exported.composition}`]),
    ...[directory, onnx?.directory].flatMap((written) =>
      written === undefined ? [] : [`written to ${written}`],
    ),
  ]
}

/** Remember the folders that were written, so that a notice can be put beside an expert that is withdrawn later. */
async function recordExports(
  node: FlexMeshNode,
  { composition, exported, experts }: ComposeResult,
  directories: readonly (string | undefined)[],
): Promise<void> {
  for (const directory of directories) {
    if (directory === undefined) continue
    await node.parts.exports.record({
      directory,
      composition: exported?.composition ?? composition,
      packages: experts.map(({ id }) => id),
      at: node.now(),
    })
  }
}

async function exportedAs(
  node: FlexMeshNode,
  experts: readonly { readonly id: Digest }[],
  topK: number,
): Promise<ComposeResult['exported'] & object> {
  const { compositionDigest } = await import('../composition/compose.ts')
  const ids = experts.map(({ id }) => id)
  const composition = compositionDigest(node.charter.publicModel.digest, ids, topK, 'rows')
  return { composition, router: 'rows' }
}

function exporterOf(node: FlexMeshNode): Exporter {
  const { consortium, charter, publicModel, accepted } = node
  const { blobs } = node.parts
  return { consortium, charter, publicModel, blobs, manifestOf: (id) => accepted.manifestOf(id) }
}
