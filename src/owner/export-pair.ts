/**
 * `flexmesh train --export-pair`: writes the two-expert checkpoint that training elsewhere starts from. Expert 0 and
 * the shared tensors are the public model's bytes. Expert 1 is a copy of the public FFN, and its router rows are the
 * ones that training here would start from. The training's folder keeps what `import-expert` needs later.
 */

import { byLayer, modelFilesOf, publicTensors } from '../checkpoint/flex-olmo.ts'
import {
  checkTarget,
  type DirectoryOptions,
  writeHuggingFaceDirectory,
} from '../checkpoint/huggingface-directory.ts'
import { openPublicModel, type PublicModel } from '../checkpoint/public-model.ts'
import { ROUTER_BIAS_FILE, writeRouterBias } from '../checkpoint/router-bias.ts'
import type { NamedTensor } from '../checkpoint/tensor-file.ts'
import { type CorpusWarning, corpusWarnings } from '../data/corpus-warnings.ts'
import type { ReadingReport } from '../data/reading-report.ts'
import { commandLine } from '../lib/command-line.ts'
import { expertName, FFN_PROJECTIONS, layerName, PAIR_EXPERT, routerName } from '../lib/tensor-names.ts'
import type { ModelConfig } from '../model/config.ts'
import { requireWeight } from '../model/weights.ts'
import type { Engine } from '../tensor/engine.ts'
import { INITIAL_BIAS } from '../training/pair.ts'
import { spendTraining } from './spend-training.ts'
import { ownStatistics, saveOwnStatistics } from './statistics.ts'
import { type PairRequest, type StartEvent, startPair } from './train-expert.ts'
import { saveConstantRows, trainingDirs } from './training-folder.ts'

export interface PairExport {
  /** The name of the training. */
  readonly name: string
  readonly directory: string
  readonly files: readonly string[]
  readonly documents: number
  readonly tokens: number
  readonly warnings: readonly CorpusWarning[]
  readonly reading: ReadingReport
}

/**
 * Write the pair into `directory`.
 * @throws InputError `exists` for a folder that is not empty; and as `startPair`.
 */
export async function exportPair(
  engine: Engine,
  model: PublicModel,
  trainingRoot: string,
  request: PairRequest,
  directory: string,
  options: DirectoryOptions & {
    readonly signal: AbortSignal
    readonly onStart?: (event: StartEvent) => void
  },
): Promise<PairExport> {
  await checkTarget(directory)
  const published = await openPublicModel(model.dir)
  const start = await startPair(engine, model, trainingRoot, request, options.signal, options.onStart)
  try {
    await spendTraining(model, trainingRoot, request.name, start.corpus, undefined, options.signal)
    const { rows, constantRows } = start.embedding
    const content = {
      tensors: byLayer([
        ...publicTensors(published),
        ...expertTensors(model),
        ...routers(model.config, rows),
      ]),
      files: await modelFilesOf(published, { experts: 2, topK: 2 }),
    }
    const bias = rows.map(() => Float32Array.of(0, INITIAL_BIAS))
    content.files.set(ROUTER_BIAS_FILE, writeRouterBias(bias))
    content.files.set('README.md', readme(request.name))
    const dirs = trainingDirs(trainingRoot, request.name)
    await saveConstantRows(dirs, constantRows)
    const own = await ownStatistics(model, start.corpus)
    if (own !== undefined) await saveOwnStatistics(dirs, own)
    const files = await writeHuggingFaceDirectory(directory, content, options)
    const { train, reading } = start.corpus.stats
    const { documents, tokens } = train
    const warnings = corpusWarnings(start.corpus.stats)
    return { name: request.name, directory, files, documents, tokens, warnings, reading }
  } finally {
    await start.close()
  }
}

/** Expert 1: a copy of the public FFN. */
function expertTensors({ config, weights }: PublicModel): NamedTensor[] {
  return Array.from({ length: config.numHiddenLayers }, (_, layer) =>
    FFN_PROJECTIONS.map((projection) => ({
      name: expertName(layer, PAIR_EXPERT, projection),
      weight: requireWeight(weights, layerName(layer, `mlp.${projection}.weight`)),
    })),
  ).flat()
}

/** Router tensors [2, C]: row 0 is the public row, which is zero; row 1 is the owner's. */
function routers({ hiddenSize: C }: ModelConfig, rows: readonly Float32Array[]): NamedTensor[] {
  return rows.map((row, layer) => {
    const data = new Float32Array(2 * C)
    data.set(row, C)
    return { name: routerName(layer), weight: { shape: [2, C], data } }
  })
}

function readme(name: string): string {
  return `# ${name}: a pair to train

A FlexOlmo model of two experts. Train only expert 1 (\`model.layers.*.mlp.experts.1.*\`), row 1 of every
\`model.layers.*.mlp.gate.weight\`, and entry 1 of every tensor in \`${ROUTER_BIAS_FILE}\`, which is added to the router's
logits as min(b, 0); both experts are always active. Everything else must stay bit for bit as it is. Then, where the
node of this training is:

\`\`\`sh
${commandLine(['import-expert', 'FOLDER', '--name', name])}
${commandLine(['publish', name])}
\`\`\`
`
}
