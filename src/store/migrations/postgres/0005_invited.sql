-- Clients tell users who were invited from those who came by themselves.

ALTER TABLE users ADD COLUMN invited_at BIGINT;
