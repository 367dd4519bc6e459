/** What to do about a failed request: give the guest an error, pretend it worked, or stop the machine and try again. */
export type ErrorAction = 'report' | 'ignore' | 'stop';
