"""The PenguinMails data platform. README.md says what is where; each module opens with what belongs in it."""
