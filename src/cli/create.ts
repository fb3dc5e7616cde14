/** The command `consortium create`: founds a consortium around a public model. */
import { option, path, requiredOption, text } from '../commands/parameters.ts'
import { bar, megabytes } from '../commands/terminal.ts'
import { shortDigest } from '../lib/bytes.ts'
import { unixNow } from './context.ts'
import { delegateIfOutside, INSTITUTION_PASSPHRASE } from './key.ts'
import { localCommand } from './local-command.ts'
import { optionalPassphrase } from './passphrase.ts'

const MAX_NAME = 100
const MAX_RULES = 300
const STAGES = { checking: 'checking weights', copying: 'copying the public model' } as const

export const CREATE = localCommand({
  name: 'consortium create',
  usage: 'consortium create --public-model DIR --name NAME [--replay FILE] [--rules RULES]',
  parameters: {
    publicModel: requiredOption(
      'public-model',
      'Hugging Face Olmo2ForCausalLM folder, with safetensors in one file or several',
      path,
    ),
    name: requiredOption('name', 'name of the consortium', text(MAX_NAME)),
    replay: option(
      'replay',
      'public text that owners train on beside their own (default: replay.jsonl in the folder)',
      path,
    ),
    rules: option(
      'rules',
      'who decides, as in "revoke=all members, rules=all members" (default: more than half of the members about everything)',
      text(MAX_RULES),
    ),
    institutionPassphraseFile: INSTITUTION_PASSPHRASE,
  },
  async work(context, { publicModel: modelDir, name, replay, rules, institutionPassphraseFile }) {
    const { home, output, passphrase, signal } = context
    const { createConsortium } = await import('../node/found.ts')
    const { MAJORITY_RULES, parseRules } = await import('../consortium/rules.ts')
    const chosen = rules === undefined ? MAJORITY_RULES : parseRules(rules, MAJORITY_RULES)
    const secret = await passphrase()
    const institutionPassphrase = await optionalPassphrase(institutionPassphraseFile, signal)
    const charter = await createConsortium(
      { home, now: unixNow, institutionPassphrase, ...(secret === undefined ? {} : { passphrase: secret }) },
      {
        modelDir,
        name,
        ...(replay === undefined ? {} : { replay }),
        rules: chosen,
        signal,
        onProgress: (stage, done, total) =>
          output.progress(`${STAGES[stage]} ${bar(done, total)} ${megabytes(done, total)}`),
      },
    )
    const delegated = await delegateIfOutside(context, institutionPassphraseFile)
    const { digest } = charter.publicModel
    output.result({ name: charter.name, publicModel: digest }, [
      `consortium "${charter.name}" founded around public model ${shortDigest(digest)}`,
      ...delegated,
      'next: "flexmesh start", then "flexmesh invite" for each institution',
    ])
  },
})
