//! Shards on faulty disks, with a toy network between them: stories of producers, consumers and failing brokers.

mod appends;
mod chance;
mod damage;
mod failover;
mod harness;
mod incarnations;
mod leader_rebalance;
mod membership;
mod reads;
mod repair;
mod storage;
mod unwritable;
mod work;
