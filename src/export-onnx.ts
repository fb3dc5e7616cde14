/**
 * `flexmesh compose --export-onnx`: a composition as a folder that plain ONNX Runtime serves: one graph,
 * its weights beside it, tokenizer, what it was made of, and how to use it.
 */
import { copyFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Composition } from './composition/compose.ts'
import {
  COMPOSITION_FILE,
  type CompositionFile,
  encodeCompositionFile,
} from './composition/composition-file.ts'
import { InputError } from './lib/errors.ts'
import { ensurePrivateDir, mapDiskErrors, pathExists, writeFileAtomic } from './lib/files.ts'
import { headSize } from './model/config.ts'
import { mixtureGraph } from './model/onnx-graph.ts'
import type { NodeState } from './node-state.ts'
import { openManifest } from './packaging/manifest.ts'
import type { PublicModel } from './public-model.ts'
import { encodeModelWithData } from './tensor/onnx-encode.ts'

/** What the program in the README asks. */
export const PROMPT = 'The protein'

export interface ExportProgress {
  readonly stage: 'export'
  /** Bytes of weights. */
  readonly total: number
}

/** What a composition of this node is made of, for the file beside its weights. */
export async function describeComposition(
  state: NodeState,
  composition: Composition,
): Promise<CompositionFile> {
  const experts = await Promise.all(
    composition.experts.map(async ({ id, name, institution }) => {
      const envelope = await state.catalogue.statement(id)
      if (envelope === undefined)
        throw new InputError('not-found', `the statement of package ${id} is missing`)
      const { license, expiresAt } = openManifest(envelope).manifest
      return { id, name, institution, license, expiresAt }
    }),
  )
  return {
    consortium: state.consortium,
    publicModel: state.charter.publicModel.digest,
    composition: composition.digest,
    topK: composition.topK,
    experts,
  }
}

/**
 * Write the folder; its `composition.json` comes last, so a folder that has one is whole.
 * @throws InputError `exists` for a folder that is not empty, `disk-full`.
 */
export async function* exportOnnx(
  dir: string,
  model: PublicModel,
  composition: Composition,
  description: CompositionFile,
  signal: AbortSignal,
): AsyncGenerator<ExportProgress, { files: string[] }, void> {
  if ((await pathExists(dir)) && (await mapDiskErrors(dir, () => readdir(dir))).length > 0) {
    throw new InputError('exists', `${dir} is not empty; name a new folder to export to`)
  }
  await ensurePrivateDir(dir)
  const E = composition.experts.length + 1
  const graph = mixtureGraph(model.config, composition.params, { E, topK: composition.topK })
  const { model: bytes, data } = encodeModelWithData(graph, 'model.onnx.data')
  const total = data.reduce((sum, part) => sum + part.length, 0)
  yield { stage: 'export', total }
  await writeFileAtomic(join(dir, 'model.onnx.data'), data, { signal })
  await writeFileAtomic(join(dir, 'model.onnx'), bytes, { signal })
  await mapDiskErrors(dir, () => copyFile(join(model.dir, 'tokenizer.json'), join(dir, 'tokenizer.json')))
  await writeFileAtomic(join(dir, 'README.md'), readme(model, description))
  await writeFileAtomic(join(dir, COMPOSITION_FILE), encodeCompositionFile(description))
  return { files: ['model.onnx', 'model.onnx.data', 'tokenizer.json', 'README.md', COMPOSITION_FILE] }
}

function readme(model: PublicModel, { composition, topK, experts }: CompositionFile): string {
  const { config, tokenizer } = model
  const { vocabSize: V, numHiddenLayers: L, numKeyValueHeads: H, maxPositionEmbeddings: R } = config
  const E = experts.length + 1
  const D = headSize(config)
  const end = tokenizer.endOfText
  return `# A FlexMesh composition for ONNX Runtime

Composition \`${composition}\`, top-${topK} of ${E} experts: the public model${experts
    .map(({ institution, name, license }) => `, ${institution}/${name} (${license})`)
    .join(
      '',
    )}. \`composition.json\` names their packages and says until when their owners consent; do not use it after
an owner has withdrawn.

\`model.onnx\` and \`model.onnx.data\` are one graph of standard ONNX operators (opset 18) in float32. A token's experts that the router does not
choose are not computed. B rows of T new tokens, P tokens before them (0 at first); all rows of a call have the same length, and
P + T is at most ${R}.

| input | type and shape | |
| --- | --- | --- |
| \`input_ids\` | int64 (B, T) | a text begins with the token ${end} |
| \`past_key_values.{0..${L - 1}}.key\`, \`.value\` | float32 (B, ${H}, P, ${D}) | the call before's \`present\` |
| \`expert_mask\` | float32 (${E}) | 0 uses an expert, -1e30 leaves it out; entry 0, the public model, stays 0 |
| \`num_logits_to_keep\` | int64 () | of how many last tokens logits are wanted |

| output | type and shape | |
| --- | --- | --- |
| \`logits\` | float32 (B, n, ${V}) | for the tokens that follow |
| \`present.{0..${L - 1}}.key\`, \`.value\` | float32 (B, ${H}, P + T, ${D}) | the next call's past |
| \`expert_shares\` | float32 (B, ${E}) | which share of the last token each expert carried |

\`\`\`python
import numpy, onnxruntime, tokenizers

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
feeds = {"expert_mask": numpy.zeros(${E}, "float32"), "num_logits_to_keep": numpy.array(1)}
for name in [i.name for i in session.get_inputs() if i.name.startswith("past")]:
    feeds[name] = numpy.zeros((1, ${H}, 0, ${D}), "float32")
ids, said = [${end}] + tokenizer.encode("${PROMPT}", add_special_tokens=False).ids, []
while len(said) < 32:
    out = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds | {"input_ids": numpy.array([ids])})))
    ids = [int(out["logits"][0, -1].argmax())]
    if ids == [${end}]:
        break
    said += ids
    feeds |= {n.replace("present", "past_key_values"): x for n, x in out.items() if n.startswith("present")}
print(tokenizer.decode(said))
\`\`\`
`
}
