/** The command `join`: joins a consortium with an invitation, and waits until a founder approves. */
import { positional, text } from '../commands/parameters.ts'
import { bar } from '../commands/terminal.ts'
import { unixNow } from './context.ts'
import { localCommand } from './local-command.ts'

const MAX_INVITE = 65_536

export const JOIN = localCommand({
  name: 'join',
  usage: 'join INVITE',
  parameters: { invite: positional(text(MAX_INVITE), 'paste the line that "flexmesh invite" printed') },
  async work({ home, output, passphrase, signal }, { invite }) {
    const { joinConsortium } = await import('../node/join.ts')
    const secret = await passphrase()
    const init = { home, now: unixNow, ...(secret === undefined ? {} : { passphrase: secret }) }
    const charter = await joinConsortium(init, invite, signal, (event) => {
      if (event.stage === 'charter') output.say(`found consortium "${event.name}"`)
      else if (event.stage === 'public-model')
        output.progress(`public model ${bar(event.done, event.total)} ${event.done}/${event.total} chunks`)
      else if (event.stage === 'waiting')
        output.say('applied for membership; waiting for the approval of a founder')
    })
    output.result({ consortium: charter.name }, [`member of "${charter.name}"`])
  },
})
