/**
 * Exports a composition as ONNX and runs the Python program in the export's README on it, in plain ONNX Runtime. The
 * text must equal the node's. Prints one line; exits 1 if the texts differ.
 * Usage: FLEXMESH_TORCH_PYTHON=PYTHON tsx scripts/parity/onnx.ts
 */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { PROMPT } from '../../src/composition/export-onnx.ts'
import { runCommand, scratchNode } from './scratch-node.ts'

const STEPS = 60
const TOKENS = 32

const python = process.env['FLEXMESH_TORCH_PYTHON']
if (python === undefined) {
  console.log('onnx: not run; set FLEXMESH_TORCH_PYTHON to a Python with onnxruntime, tokenizers and numpy')
  process.exit(0)
}
const root = await mkdtemp(join(tmpdir(), 'flexmesh-parity-'))
try {
  const node = await scratchNode(join(root, 'home'), 'St. Anna Hospital')
  const data = [new URL('../../examples/hospital/text', import.meta.url).pathname]
  await runCommand(node, 'train', { name: 'biomedicine', data, steps: STEPS })
  await runCommand(node, 'publish', { name: 'biomedicine' })
  const dir = join(root, 'onnx')
  await runCommand(node, 'compose', { exportOnnx: dir })
  const ours = (await runCommand(node, 'generate', { prompt: PROMPT, maxTokens: TOKENS })) as { text: string }
  await node.close()

  const program = /```python\n(.*?)```/s.exec(await readFile(join(dir, 'README.md'), 'utf8'))?.[1] ?? ''
  const versions = 'print(onnxruntime.__version__)\n'
  const { stdout } = await promisify(execFile)(python, ['-c', program + versions], { cwd: dir })
  const lines = stdout.trimEnd().split('\n')
  const version = lines.pop()
  const same = lines.join('\n') === ours.text.trimEnd()
  console.log(
    same
      ? `onnx: onnxruntime ${version} in Python gives the same ${TOKENS} tokens as the node`
      : `onnx: onnxruntime ${version} in Python gives "${lines.join('\n')}", the node "${ours.text}"`,
  )
  if (!same) process.exitCode = 1
} finally {
  await rm(root, { recursive: true, force: true })
}
