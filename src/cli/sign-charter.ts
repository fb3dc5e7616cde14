/** The command `consortium sign`: signs a charter that several founders share, and founds the home once all have signed. */

import { option, path, positional } from '../commands/parameters.ts'
import { bar, megabytes } from '../commands/terminal.ts'
import type { Rules } from '../consortium/rules.ts'
import { shortDigest } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { unixNow } from './context.ts'
import { localCommand } from './local-command.ts'

export const SIGN_CHARTER = localCommand({
  name: 'consortium sign',
  usage: 'consortium sign FILE [--public-model DIR] [--replay FILE]',
  parameters: {
    file: positional(path, 'give the file that "flexmesh consortium create --charter" has written'),
    modelDir: option(
      'public-model',
      'folder of the public model that the charter names (default: only show the charter, and sign nothing)',
      path,
    ),
    replay: option('replay', 'public text of the charter (default: replay.jsonl in the folder)', path),
  },
  async work({ home, output, passphrase, signal }, { file, modelDir, replay }) {
    const { signCharterFile } = await import('../node/co-found.ts')
    const secret = modelDir === undefined ? undefined : await passphrase()
    const report = await signCharterFile(
      { home, now: unixNow, ...(secret === undefined ? {} : { passphrase: secret }) },
      {
        file,
        signal,
        ...(modelDir === undefined ? {} : { modelDir }),
        ...(replay === undefined ? {} : { replay }),
        onProgress: (stage, done, total) =>
          output.progress(`${stage} the public model ${bar(done, total)} ${megabytes(done, total)}`),
      },
    )
    const { charter, consortium, missing, isFounded } = report
    output.result({ name: charter.name, consortium, missing, isFounded }, [
      `"${charter.name}", ${consortium}`,
      `public model ${shortDigest(charter.publicModel.digest)}`,
      `founders: ${charter.founders.map(({ institution, peerId }) => `${institution} (${peerId})`).join(', ')}`,
      `decisions: ${await rulesWords(charter.rules)}`,
      ...(isFounded
        ? [
            'all founders have signed; this home belongs to the consortium',
            'next: "flexmesh start" at each founder, then "flexmesh connect ADDRESS" at all but one, with the address of the one',
          ]
        : [
            `not signed yet: ${missing.join(', ')}`,
            modelDir === undefined
              ? 'this has signed nothing; --public-model DIR signs'
              : `next: they run "flexmesh consortium sign" on ${file}; then run ${ownCommand('consortium', 'sign', 'FILE', '--public-model', modelDir)} here with the file that all have signed`,
          ]),
    ])
  },
})

async function rulesWords(rules: Rules): Promise<string> {
  const { CHANGE_KINDS, writeRule } = await import('../consortium/rules.ts')
  return CHANGE_KINDS.map((kind) => `${kind} ${writeRule(rules[kind])}`).join(', ')
}
