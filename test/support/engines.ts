/** The engines that tests run on, and those that are missing on this machine, with the reason. */
import { FlexMeshError } from '../../src/lib/errors.ts'
import { cpuEngine } from '../../src/tensor/eager-engine.ts'
import type { Engine } from '../../src/tensor/engine.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { selectEngine } from '../../src/tensor/select-engine.ts'

interface Absent {
  readonly name: string
  /** Shown with the tests that are skipped because of it. */
  readonly reason: string
}

export const onnx = onnxEngine({ threads: 1 })
export const oracle = cpuEngine()

const found = await Promise.all(
  [
    { name: 'tensorflow', threads: 1 },
    { name: 'onnx', device: 'cuda' },
  ].map(async (choice): Promise<Engine | Absent> => {
    try {
      return await selectEngine(choice)
    } catch (error) {
      if (!(error instanceof FlexMeshError)) throw error
      return { name: [choice.name, choice.device].join(' ').trim(), reason: error.message }
    }
  }),
)

/** Optional engines that are installed; `label` has name and device. */
export const optional = found
  .filter((engine) => 'compile' in engine)
  .map((engine) => ({ label: `${engine.name} on ${engine.device}`, engine }))
export const absent = found.filter((engine): engine is Absent => 'reason' in engine)
for (const { name, reason } of absent) console.warn(`not tested on ${name}: ${reason}`)

/** All engines of this machine, with the engine `cpu` last. */
export const present = [
  { label: 'onnx on cpu', engine: onnx },
  ...optional,
  { label: 'cpu on cpu', engine: oracle },
]
