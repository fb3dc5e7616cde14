/**
 * `flexmesh compose --export-onnx`: writes a composition as a folder for plain ONNX Runtime: one graph, its weights in a
 * second file, the tokenizer, the composition file, and a README that shows how to use them. Knows nothing about
 * packages and their files.
 */
import { join } from 'node:path'
import { checkTarget } from '../checkpoint/huggingface-directory.ts'
import { readInstructFiles } from '../checkpoint/instruct-files.ts'
import { readTokenizer, TOKENIZER_FILE } from '../checkpoint/model-directory.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { ensurePrivateDir, writeFileAtomic } from '../lib/files.ts'
import { headSize } from '../model/config.ts'
import { materialised } from '../model/low-rank.ts'
import { mixtureGraph } from '../model/onnx-graph.ts'
import { mixtureWeights, zeroRows } from '../model/params.ts'
import { loadParams, type WeightMap } from '../model/weights.ts'
import { encodeModelWithData } from '../tensor/onnx-encode.ts'
import type { Composition } from './compose.ts'
import { COMPOSITION_FILE, type CompositionFile, encodeCompositionFile } from './composition-file.ts'
import { type CompositionSource, describeComposition } from './describe.ts'

/** Prompt of the program in the README. */
export const PROMPT = 'The protein'

export interface OnnxExport {
  readonly directory: string
  readonly signal: AbortSignal
  /** Called with the number of bytes of weights written so far, and of all weights. */
  readonly onProgress: (done: number, total: number) => void
}

const DATA_FILE = 'model.onnx.data'

/**
 * Write the folder. `composition.json` is written last, so a folder that has one is complete.
 * @returns names of the files written.
 * @throws InputError `exists` for a folder that is not empty, `disk-full`.
 */
export async function exportOnnx(
  source: CompositionSource,
  model: PublicModel,
  composition: Composition,
  { directory, signal, onProgress }: OnnxExport,
): Promise<string[]> {
  await checkTarget(directory)
  const { experts, topK } = composition
  const params = await loadParams(fullRankWeights(model, composition), signal)
  const description = await describeComposition(source, experts, topK)
  await ensurePrivateDir(directory)
  const graph = mixtureGraph(model.config, params, { E: experts.length + 1, topK })
  const { model: bytes, data } = encodeModelWithData(graph, DATA_FILE)
  const total = data.reduce((sum, part) => sum + part.length, 0)
  let done = 0
  const onPart = (length: number): void => {
    done += length
    onProgress(done, total)
  }
  const put = (name: string, content: Uint8Array | string): Promise<void> =>
    writeFileAtomic(join(directory, name), content, { signal })
  await writeFileAtomic(join(directory, DATA_FILE), data, { signal, onPart })
  await put('model.onnx', bytes)
  await put(TOKENIZER_FILE, await readTokenizer(model.dir))
  const { bytes: optional } = await readInstructFiles(model.dir)
  for (const [name, content] of optional) await put(name, content)
  await put('README.md', readme(model, description))
  await put(COMPOSITION_FILE, encodeCompositionFile(description))
  return ['model.onnx', DATA_FILE, TOKENIZER_FILE, ...optional.keys(), 'README.md', COMPOSITION_FILE]
}

/** The graph has no low-rank experts: their differences are added to the public weights here. */
function fullRankWeights({ config, weights }: PublicModel, { experts }: Composition): WeightMap {
  const whole = experts.map(({ expert }) => materialised(expert, weights))
  return mixtureWeights(config, weights, zeroRows(config), whole)
}

function readme(model: PublicModel, { composition, topK, experts }: CompositionFile): string {
  const { config, endsOfText } = model
  const { vocabSize: V, numHiddenLayers: L, numKeyValueHeads: H, maxPositionEmbeddings: R } = config
  const E = experts.length + 1
  const D = headSize(config)
  const [end] = endsOfText
  return `# A FlexMesh composition for ONNX Runtime

Composition \`${composition}\`, top-${topK} of ${E} experts: the public model${experts
    .map(({ institution, name, license }) => `, ${institution}/${name} (${license})`)
    .join(
      '',
    )}. \`composition.json\` names their packages and says until when their owners consent; do not use it after
an owner has withdrawn.

\`model.onnx\` and \`model.onnx.data\` are one graph of standard ONNX operators (opset 18) in float32. Low-rank experts are stored as
whole weights. The graph routes by the experts' router rows, without a gate solved from router statistics, and computes only the
experts that the router chooses. A call processes B rows of T new tokens after P earlier ones (0 at first). All rows of a call have
the same length, and P + T is at most ${R}.

| input | type and shape | |
| --- | --- | --- |
| \`input_ids\` | int64 (B, T) | every text begins with token ${end} |
| \`past_key_values.{0..${L - 1}}.key\`, \`.value\` | float32 (B, ${H}, P, ${D}) | \`present\` of the previous call |
| \`expert_mask\` | float32 (${E}) | 0 uses an expert, -1e30 leaves it out; entry 0, the public model, must stay 0 |
| \`num_logits_to_keep\` | int64 () | number n of last tokens whose logits are returned |

| output | type and shape | |
| --- | --- | --- |
| \`logits\` | float32 (B, n, ${V}) | for the token after each of the last n tokens |
| \`present.{0..${L - 1}}.key\`, \`.value\` | float32 (B, ${H}, P + T, ${D}) | \`past_key_values\` of the next call |
| \`expert_shares\` | float32 (B, ${E}) | share of each expert in the last token |

\`\`\`python
import numpy, onnxruntime, tokenizers

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
feeds = {"expert_mask": numpy.zeros(${E}, "float32"), "num_logits_to_keep": numpy.array(1)}
for name in [i.name for i in session.get_inputs() if i.name.startswith("past")]:
    feeds[name] = numpy.zeros((1, ${H}, 0, ${D}), "float32")
ids, generated = [${end}] + tokenizer.encode("${PROMPT}", add_special_tokens=False).ids, []
while len(generated) < 32:
    out = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds | {"input_ids": numpy.array([ids])})))
    ids = [int(out["logits"][0, -1].argmax())]
    if ids[0] in ${JSON.stringify(endsOfText)}:
        break
    generated += ids
    feeds |= {n.replace("present", "past_key_values"): x for n, x in out.items() if n.startswith("present")}
print(tokenizer.decode(generated))
\`\`\`
`
}
