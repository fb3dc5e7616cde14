/** The command `consortium create`: founds a consortium around a public model. */

import { option, path, repeated, requiredOption, text, usage } from '../commands/parameters.ts'
import { bar, megabytes } from '../commands/terminal.ts'
import { shortDigest } from '../lib/bytes.ts'
import { commandLine, ownCommand } from '../lib/command-line.ts'
import { unixNow } from './context.ts'
import { delegateIfOutside, INSTITUTION_PASSPHRASE } from './key.ts'
import { localCommand } from './local-command.ts'
import { optionalPassphrase } from './passphrase.ts'

const MAX_NAME = 100
const MAX_RULES = 300
const MAX_FOUNDER = 200
const MAX_FOUNDERS = 63
const STAGES = { checking: 'checking weights', copying: 'copying the public model' } as const

export const CREATE = localCommand({
  name: 'consortium create',
  usage:
    'consortium create --public-model DIR --name NAME [--replay FILE] [--rules RULES] [--with INSTITUTION=PEERID --charter FILE]',
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
    founders: repeated(
      'with',
      'a further founder, as "flexmesh init" has printed it there: "Archive=12D3KooW..."',
      MAX_FOUNDER,
      MAX_FOUNDERS,
    ),
    charterFile: option(
      'charter',
      'file for the charter, which travels to all founders that --with names until each has signed it',
      path,
    ),
    institutionPassphraseFile: INSTITUTION_PASSPHRASE,
  },
  async work(context, request) {
    const {
      publicModel: modelDir,
      name,
      replay,
      rules,
      founders,
      charterFile,
      institutionPassphraseFile,
    } = request
    const { home, output, passphrase, signal } = context
    if ((founders === undefined) !== (charterFile === undefined)) {
      throw usage('--with and --charter belong together: the file collects the signatures of the founders')
    }
    const { createConsortium } = await import('../node/found.ts')
    const { MAJORITY_RULES, parseRules } = await import('../consortium/rules.ts')
    const chosen = rules === undefined ? MAJORITY_RULES : parseRules(rules, MAJORITY_RULES)
    const secret = await passphrase()
    const institutionPassphrase = await optionalPassphrase(institutionPassphraseFile, signal)
    const { charter, identity } = await createConsortium(
      { home, now: unixNow, institutionPassphrase, ...(secret === undefined ? {} : { passphrase: secret }) },
      {
        modelDir,
        name,
        ...(replay === undefined ? {} : { replay }),
        rules: chosen,
        ...(founders === undefined ? {} : { others: await readFounders(founders) }),
        signal,
        onProgress: (stage, done, total) =>
          output.progress(`${STAGES[stage]} ${bar(done, total)} ${megabytes(done, total)}`),
      },
    )
    const { digest } = charter.publicModel
    if (charterFile !== undefined) {
      const { writeDraft } = await import('../node/co-found.ts')
      await writeDraft(charterFile, charter, identity)
      output.result({ name: charter.name, publicModel: digest, charterFile }, [
        `the charter of "${charter.name}" is in ${charterFile}, signed by this institution; it is no consortium yet`,
        `next: each founder runs "${commandLine(['consortium', 'sign', charterFile, '--public-model', 'DIR'])}" and passes the file on; once all have signed, all run it again with the last file`,
      ])
      return
    }
    const delegated = await delegateIfOutside(context, institutionPassphraseFile)
    output.result({ name: charter.name, publicModel: digest }, [
      `consortium "${charter.name}" founded around public model ${shortDigest(digest)}`,
      ...delegated,
      `next: ${ownCommand('start')}, then ${ownCommand('invite')} for each institution`,
    ])
  },
})

/** @param given entries `INSTITUTION=PEERID`. @throws InputError `usage`. */
async function readFounders(given: readonly string[]) {
  const [{ institutionName }, { publicKeyFromPeerId }] = await Promise.all([
    import('../consortium/member.ts'),
    import('../identity/keys.ts'),
  ])
  return given.map((entry) => {
    const at = entry.lastIndexOf('=')
    if (at < 1) throw usage(`--with: expected INSTITUTION=PEERID, got "${entry}"`)
    const [institution, peerId] = [institutionName(entry.slice(0, at)), entry.slice(at + 1).trim()]
    publicKeyFromPeerId(peerId)
    return { institution, peerId }
  })
}
