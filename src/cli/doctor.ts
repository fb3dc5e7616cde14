/** `flexmesh doctor`: what this machine offers and lacks, and the next command for what is absent. */
import { availableParallelism, freemem, totalmem } from 'node:os'
import { FlexMeshError } from '../lib/errors.ts'
import { selectEngine } from '../tensor/select-engine.ts'
import type { CommandContext } from './context.ts'

const GIB = 2 ** 30

export async function runDoctor({ output }: CommandContext): Promise<void> {
  const engines: { name: string; present: boolean; description: string }[] = []
  for (const name of ['onnx', 'tensorflow', 'cpu']) {
    try {
      engines.push({ name, present: true, description: (await selectEngine(name)).description })
    } catch (error) {
      if (!(error instanceof FlexMeshError)) throw error
      engines.push({ name, present: false, description: error.message })
    }
  }
  const machine = {
    node: process.version,
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / GIB),
    freeGiB: Math.round(freemem() / GIB),
  }
  output.result({ machine, engines }, [
    `Node ${machine.node}, ${machine.cores} cores, ${machine.memoryGiB} GiB memory (${machine.freeGiB} free)`,
    ...engines.map(
      ({ name, present, description }) => `${present ? 'ok     ' : 'absent '} ${name}: ${description}`,
    ),
  ])
}
