/** The command `doctor`: what this machine offers and lacks; can also link TensorFlow for the engine of that name. */

import { option, text } from '../commands/parameters.ts'
import { ownCommand } from '../lib/command-line.ts'
import type { CommandContext } from './context.ts'
import { localCommand } from './local-command.ts'

const MAX_PYTHON = 4096

export const DOCTOR = localCommand({
  name: 'doctor',
  usage: 'doctor [--link-tensorflow PYTHON]',
  parameters: {
    linkTensorflow: option(
      'link-tensorflow',
      'build the binding of --engine tensorflow for the TensorFlow of this Python',
      text(MAX_PYTHON),
    ),
  },
  async work(context, { linkTensorflow: python }) {
    if (python !== undefined) await link(python, context)
    else await report(context)
  },
})

async function report({ engine, output, signal }: CommandContext): Promise<void> {
  const { findEngines, reportLines } = await import('./engine-report.ts')
  const found = await findEngines(engine.threads, signal, (line) => output.progress(line))
  output.result(found, reportLines(found))
}

async function link(python: string, { output, signal }: CommandContext): Promise<void> {
  const { linkTensorflow } = await import('../tensor/link-tensorflow.ts')
  const linked = await linkTensorflow(python, (line) => output.say(line), signal)
  const { folder, library, device, gflops } = linked
  output.result(linked, [
    `linked ${library} on ${device}, ${gflops.toFixed(0)} GFLOP/s, in ${folder}`,
    `next: ${ownCommand('train', '--engine', 'tensorflow', '--name', 'NAME', '--data', 'PATH')}`,
  ])
}
