/** The command `join`: joins a consortium with an invitation, and waits until the members approve. */

import { positional, text } from '../commands/parameters.ts'
import { bar, megabytes } from '../commands/terminal.ts'
import { ownCommand } from '../lib/command-line.ts'
import { ExchangeError } from '../lib/errors.ts'
import type { JoinEvent } from '../node/guest.ts'
import { unixNow } from './context.ts'
import { delegateIfOutside, INSTITUTION_PASSPHRASE } from './key.ts'
import { localCommand } from './local-command.ts'
import { optionalPassphrase } from './passphrase.ts'

const MAX_INVITE = 65_536

export const JOIN = localCommand({
  name: 'join',
  usage: 'join INVITE',
  parameters: {
    invite: positional(text(MAX_INVITE), 'paste the line that "flexmesh invite" printed'),
    institutionPassphraseFile: INSTITUTION_PASSPHRASE,
  },
  async work(context, { invite, institutionPassphraseFile }) {
    const { home, output, passphrase, signal } = context
    const { joinConsortium } = await import('../node/join.ts')
    const secret = await passphrase()
    const institutionPassphrase = await optionalPassphrase(institutionPassphraseFile, signal)
    const init = {
      home,
      now: unixNow,
      institutionPassphrase,
      ...(secret === undefined ? {} : { passphrase: secret }),
    }
    const charter = await joinConsortium(init, invite, signal, (event) => {
      for (const line of linesOf(event)) output.say(line)
      if (event.stage === 'public-model')
        output.progress(`public model ${bar(event.done, event.total)} ${event.done}/${event.total} chunks`)
      if (event.stage === 'checking')
        output.progress(
          `checking weights ${bar(event.done, event.total)} ${megabytes(event.done, event.total)}`,
        )
    }).catch((error: unknown) => {
      throw withAdvice(error)
    })
    const delegated = await delegateIfOutside(context, institutionPassphraseFile)
    output.result({ consortium: charter.name }, [
      `member of "${charter.name}"`,
      ...delegated,
      `next: ${ownCommand('start')}`,
    ])
  },
})

function linesOf(event: JoinEvent): string[] {
  switch (event.stage) {
    case 'charter':
      return [`found consortium "${event.name}"`]
    case 'waiting':
      return [
        'applied for membership; waiting until the members approve, which may take days',
        'Ctrl-C does no harm: the same command goes on waiting later',
      ]
    case 'away':
      return ['the node of the inviting institution does not answer; waiting goes on']
    case 'back':
      return ['the node of the inviting institution answers again']
    default:
      return []
  }
}

/** Errors of the network before the request has arrived end the command, which can be repeated. */
function withAdvice(error: unknown): unknown {
  if (!(error instanceof ExchangeError) || !['unreachable', 'timeout', 'protocol'].includes(error.code))
    return error
  const message = `${error.message}; run the same command again when the inviting node is running, what was fetched is kept`
  return new ExchangeError(error.code, message, error.fields, error)
}
