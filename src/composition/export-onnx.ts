/**
 * `flexmesh compose --export-onnx`: writes a composition as a folder for plain ONNX Runtime: one graph, its weights in a
 * second file of any size, the tokenizer, the composition file, and a README that shows how to use them.
 */

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { checkTarget, writeFolder } from '../checkpoint/huggingface-directory.ts'
import { readInstructFiles } from '../checkpoint/instruct-files.ts'
import { readTokenizer, TOKENIZER_FILE } from '../checkpoint/model-directory.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { writeNewFile } from '../checkpoint/tensor-file.ts'
import { utf8 } from '../lib/bytes.ts'
import { PRIVATE_FILE_MODE } from '../lib/files.ts'
import { headSize } from '../model/config.ts'
import { mixtureGraph } from '../model/onnx-graph.ts'
import { type Expert, mixtureWeights, zeroRows } from '../model/params.ts'
import { privacyWords } from '../packaging/privacy-words.ts'
import { type ByteSource, encodeModelWithData } from '../tensor/onnx-encode.ts'
import type { Composition } from './compose.ts'
import { COMPOSITION_FILE, type CompositionFile, encodeCompositionFile } from './composition-file.ts'
import { describeComposition } from './describe.ts'
import { type Exporter, wholeExpert } from './whole-expert.ts'

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
 * Write the folder, which appears complete or not at all.
 * @returns names of the files written.
 * @throws InputError `exists` for a folder that is not empty, `disk-full` before anything is written, `not-found` if a
 * package is withdrawn meanwhile; VerificationError `wrong-digest` for a package file that has changed on the disk.
 */
export async function exportOnnx(
  node: Exporter,
  { experts, topK }: Pick<Composition, 'experts' | 'topK'>,
  { directory, signal, onProgress }: OnnxExport,
): Promise<string[]> {
  await checkTarget(directory)
  const { publicModel } = node
  const { config } = publicModel
  const whole: Expert[] = []
  for (const { id } of experts) whole.push(await wholeExpert(node, await node.manifestOf(id), signal))
  const weights = mixtureWeights(config, publicModel.weights, zeroRows(config), whole)
  const graph = await mixtureGraph(config, weights, { E: experts.length + 1, topK })
  const { model, data, dataBytes } = encodeModelWithData(graph, DATA_FILE)
  const description = await describeComposition(node, experts, topK)
  const { bytes: optional } = await readInstructFiles(publicModel.dir)
  const small = new Map<string, Uint8Array>([
    ['model.onnx', model],
    [TOKENIZER_FILE, await readTokenizer(publicModel.dir)],
    ...optional,
    ['README.md', utf8(readme(publicModel, description))],
    [COMPOSITION_FILE, utf8(encodeCompositionFile(description))],
  ])
  const smallBytes = [...small.values()].reduce((sum, { length }) => sum + length, 0)
  await writeFolder(directory, dataBytes + smallBytes, async (temporary) => {
    const pieces = dataPieces(data, signal, (done) => onProgress(done, dataBytes))
    await writeNewFile(join(temporary, DATA_FILE), pieces, PRIVATE_FILE_MODE)
    for (const [name, content] of small) {
      await writeFile(join(temporary, name), content, { flush: true, mode: PRIVATE_FILE_MODE })
    }
  })
  return [DATA_FILE, ...small.keys()]
}

/** The content of the data file, piece by piece. @param onProgress called with the bytes so far */
async function* dataPieces(
  data: readonly (Uint8Array | ByteSource)[],
  signal: AbortSignal,
  onProgress: (done: number) => void,
): AsyncGenerator<Uint8Array, void, void> {
  let done = 0
  for (const part of data) {
    for await (const piece of part instanceof Uint8Array ? [part] : part.pieces(signal)) {
      signal.throwIfAborted()
      yield piece
      done += piece.length
      onProgress(done)
    }
  }
}

function readme(model: PublicModel, { composition, topK, experts }: CompositionFile): string {
  const { config, endsOfText } = model
  const { vocabSize: V, numHiddenLayers: L, numKeyValueHeads: H, maxPositionEmbeddings: R } = config
  const E = experts.length + 1
  const D = headSize(config)
  const [end] = endsOfText
  return `# A FlexMesh composition for ONNX Runtime

Composition \`${composition}\`, top-${topK} of ${E} experts: the public model${experts
    .map(
      ({ institution, name, license, privacy }) =>
        `, ${institution}/${name} (${license}; ${privacyWords(privacy)})`,
    )
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
