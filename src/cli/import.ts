/** The command `import-expert`: turns a checkpoint that was trained elsewhere into a finished training. */

import { EXPERT_NAME } from '../commands/common-parameters.ts'
import { path, positional, requiredOption } from '../commands/parameters.ts'
import { bar, megabytes } from '../commands/terminal.ts'
import { TimeLeft, timeLeft } from '../commands/time-left.ts'
import { ownCommand } from '../lib/command-line.ts'
import { homePaths, loadSettings } from '../store/home.ts'
import { localCommand } from './local-command.ts'

export const IMPORT_EXPERT = localCommand({
  name: 'import-expert',
  usage: 'import-expert DIR --name NAME',
  parameters: {
    dir: positional(path, 'name the folder of the two-expert checkpoint'),
    name: requiredOption(
      'name',
      'name of the expert; the one of the exported pair if a pair was exported',
      EXPERT_NAME,
    ),
  },
  async work({ home, output, signal }, { dir, name }) {
    const [{ importExpert }, { holdTraining }] = await Promise.all([
      import('../owner/import-expert.ts'),
      import('./training-hold.ts'),
    ])
    const paths = homePaths(home)
    await loadSettings(paths)
    const letGo = await holdTraining(paths, name, 'flexmesh import-expert')
    const left = new TimeLeft()
    const result = await importExpert(paths, dir, name, {
      signal,
      onProgress: (done, total) =>
        output.progress(
          `comparing with the public model ${bar(done, total)} ${megabytes(done, total)}${timeLeft(left.after({ done, total }))}`,
        ),
    }).finally(letGo)
    output.result(result, [
      `${name} is imported; everything but its expert 1 equals the public model bit for bit`,
      `next: ${ownCommand('publish', name)}`,
    ])
  },
})
