-- New pages are filled to the end again.
alter table jobs reset (fillfactor);
