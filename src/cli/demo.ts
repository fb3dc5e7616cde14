/** The command `demo`: three institutions on this machine go through every step, then one of them serves. */
import { flag, option, whole } from '../commands/parameters.ts'
import { localCommand } from './local-command.ts'
import { DEFAULT_PORT, MAX_PORT } from './start.ts'

const MAX_STEPS = 100_000

export const DEMO = localCommand({
  name: 'demo',
  usage: 'demo [--once] [--steps N] [--port N]',
  parameters: {
    once: flag('once', 'end instead of serving'),
    steps: option('steps', 'training steps of each institution (default 100)', whole(1, MAX_STEPS)),
    port: option('port', 'port of the API (default 8080; with --once any free port)', whole(0, MAX_PORT)),
  },
  async work({ output, signal }, { once, steps, port }) {
    const { runDemo } = await import('./demo-run.ts')
    await runDemo({
      isServing: !once,
      ...(steps === undefined ? {} : { steps }),
      port: port ?? (once ? 0 : DEFAULT_PORT),
      output,
      signal,
    })
  },
})
