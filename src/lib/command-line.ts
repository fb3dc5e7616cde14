/**
 * Command lines that the program prints for its users to run. A printed command has the options that lead to the home
 * folder of the command that prints it, and each word is quoted where a shell needs that, so that it can be copied.
 *
 * Parts of the program that do not know these options, such as the text of an error, name a command by `ownCommand`;
 * whoever shows the message completes it with `completeCommands`. Commands that somebody runs elsewhere, such as
 * another institution, are written by `commandLine`.
 */

/** Words that every POSIX shell takes literally; also the placeholders of the help texts. */
const PLAIN_WORD = /^[\w@%+=:,./-]+$/
/** A command in a message, as `ownCommand` writes it. */
const OWN_COMMAND = /`(flexmesh (?:'[^']*'|\\.|[^`'\\])*)`/g

export function commandLine(words: readonly string[]): string {
  return ['flexmesh', ...words.map(shellWord)].join(' ')
}

/**
 * A command on the home folder of the node that writes the message, in backticks and without the options that lead to
 * this home.
 */
export function ownCommand(...words: readonly string[]): string {
  return `\`${commandLine(words)}\``
}

/**
 * Completes the commands of a message that `ownCommand` has written. They end up in double quotes, except where a colon
 * introduces each of them and its clause ends with it, as in "next: flexmesh start".
 * @param options added to each command, word by word, as in `--home /srv/node`
 */
export function completeCommands(message: string, options: readonly string[]): string {
  const rest = options.map((word) => ` ${shellWord(word)}`).join('')
  const found = [...message.matchAll(OWN_COMMAND)]
  const quote = found.every((match) => endsClause(message, match)) ? '' : '"'
  return message.replaceAll(OWN_COMMAND, (_, command: string) => `${quote}${command}${rest}${quote}`)
}

/** Whether a colon introduces a command and nothing of its clause follows. */
function endsClause(message: string, { 0: marked, index }: RegExpExecArray): boolean {
  return message.slice(0, index).endsWith(': ') && /^(?:[,;\n]|$)/.test(message.slice(index + marked.length))
}

/** POSIX.1-2024, Shell Command Language, 2.2.2: no character between single quotes has a special meaning. */
function shellWord(word: string): string {
  return PLAIN_WORD.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}
