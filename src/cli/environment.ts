/** Refuses to run under environment variables that would make a library write secrets. */
import { InputError } from '../lib/errors.ts'

/** @throws InputError `usage`. */
export function checkEnvironment(environment: Readonly<Record<string, string | undefined>>): void {
  if (environment['DUMP_SESSION_KEYS']) {
    throw new InputError(
      'usage',
      'DUMP_SESSION_KEYS is set, which makes the encryption of connections log its session keys; unset it',
    )
  }
}
