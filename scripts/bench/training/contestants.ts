/** Lists the contestants of the training benchmark and starts them, or reports why one cannot take part. */
import { fileURLToPath } from 'node:url'
import { Contestant } from './contestant.ts'
import type { ReferenceName } from './models.ts'
import { THREADS } from './work-folder.ts'

export const CONTESTANTS = ['flexmesh', 'torchEager', 'torchCompile', 'tfjsWasm', 'tfjsNode'] as const
export type ContestantName = (typeof CONTESTANTS)[number]

/**
 * Groups of peers that alternate with us in the same rounds. TensorFlow has a group of its own: with both it and
 * PyTorch in memory, our step at S took three times as long as with one of them.
 */
export const ROUND_MATES: readonly (readonly ContestantName[])[] = [
  ['torchEager', 'torchCompile', 'tfjsWasm'],
  ['tfjsNode'],
]

const ENGINES: Partial<Record<ContestantName, string>> = {
  flexmesh: 'onnx',
  tfjsWasm: 'wasm',
  tfjsNode: 'tensorflow',
}

/** Peers whose step takes minutes at M; they are measured at S only. */
export const SLOW: readonly ContestantName[] = ['tfjsWasm']

const script = (name: string): string => fileURLToPath(new URL(`./${name}`, import.meta.url))

/** @throws Error with the reason why it cannot take part. */
export async function startContestant(
  name: ContestantName,
  reference: ReferenceName,
  folder: string,
): Promise<Contestant> {
  if (SLOW.includes(name) && reference !== 'S') throw new Error('measured at S only')
  const tsx = ['--import', 'tsx']
  const engine = ENGINES[name]
  if (engine !== undefined) {
    return Contestant.start(process.execPath, [...tsx, script('contestant.child.ts'), folder, engine], {})
  }
  const python = process.env['FLEXMESH_TORCH_PYTHON']
  if (python === undefined) throw new Error('not installed; set FLEXMESH_TORCH_PYTHON to a Python with torch')
  const mode = name === 'torchCompile' ? 'compile' : 'eager'
  return Contestant.start(python, [script('torch_peer.py'), folder, mode], {
    OMP_NUM_THREADS: String(THREADS),
  })
}
